"""Pictures of a fitted network, in scikit-learn's Display convention.

`from_estimator` collects the numbers, `plot` draws them, and ``ax_``, ``figure_`` hold what was
drawn; the numbers stay in attributes.  matplotlib is imported when something is drawn.  Colours
differ in lightness too, and lines in their dashes, so that pictures read in grey.
"""

from fastbp.inspection.displays.gradient_flow import GradientFlowDisplay
from fastbp.inspection.displays.loss_curve import LossCurveDisplay
from fastbp.inspection.displays.search_curves import SearchCurvesDisplay
from fastbp.inspection.displays.weights import WeightsDisplay

__all__ = ["GradientFlowDisplay", "LossCurveDisplay", "SearchCurvesDisplay", "WeightsDisplay"]
