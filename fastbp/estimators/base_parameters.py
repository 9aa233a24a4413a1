"""How every estimator of fastbp keeps its parameters, and travels in pickles.

What scikit-learn asks of parameters, with an answer to names that nobody knows; nothing of data,
networks or training.
"""

import inspect
from functools import cache
from typing import Any, Self

from sklearn.base import BaseEstimator

from fastbp.estimators.attributes import complete
from fastbp.estimators.parameters import say_object
from fastbp.messages import find_parameter
from fastbp.versions import __version__, refuse_newer


class BaseParameters(BaseEstimator):
    """An estimator whose constructor stores its arguments."""

    # Where scikit-learn's notebook display links to: the page of each class in the API reference.
    _doc_link_module = "fastbp"
    _doc_link_template = "https://fastbp.readthedocs.io/en/latest/api/fastbp.{estimator_name}.html"

    @classmethod
    @cache
    def _get_param_names(cls):
        """Remember what scikit-learn reads from the signature.

        A search asks four times a fit, which took 57 us each (November 2026).
        """
        return super()._get_param_names()

    @classmethod
    @cache
    def _get_default_params(cls):
        """Return the default of each parameter."""
        parameters = inspect.signature(cls.__init__).parameters
        return {name: parameters[name].default for name in cls._get_param_names()}

    def _store(self, parameters):
        """Keep the arguments of ``__init__`` under their names, untouched."""
        for name, value in parameters.items():
            if name != "self":
                setattr(self, name, value)

    def set_params(self, **params: Any) -> Self:
        """Set parameters, as every estimator does; ``loss__delta`` sets one of an object's.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            If there is no such parameter; names what was probably meant.  Also if a setting of an
            object is asked of a name, such as ``loss__delta`` of ``loss="huber"``.
        """
        for name, _, setting in (full.partition("__") for full in params):
            value = params.get(name, getattr(self, name, None))
            if setting and isinstance(value, str):
                raise ValueError(
                    f"{name}={value!r} is a name, which has no {setting!r} to set. "
                    f"{say_object(name, value)}"
                )
        try:
            return super().set_params(**params)
        except ValueError as error:
            known = self._get_param_names()
            names = (name.partition("__")[0] for name in params)
            meant = [find_parameter(name, known) for name in names if name not in known]
            if not any(meant):
                raise
            raise ValueError(f"{error} Did you mean {next(filter(None, meant))}?") from None

    def __getstate__(self):
        return {**super().__getstate__(), "_fastbp_version": __version__}

    def __setstate__(self, state):
        """Take the state of a pickle or copy; one of a newer fastbp would go wrong later.

        Parameters that it does not know, being older, have their defaults.
        """
        state = self._get_default_params() | dict(state)
        complete(state)
        refuse_newer(
            state.pop("_fastbp_version", __version__), f"This pickled {type(self).__name__}"
        )
        super().__setstate__(state)
