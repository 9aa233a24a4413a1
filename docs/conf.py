"""Settings of the documentation: Sphinx, numpydoc, and sphinx-gallery, which runs ``examples/``.

    pip install -e ".[docs]" && sphinx-build -W docs docs/_build/html

Nothing is fetched while building; links to other libraries' pages are made on Read the Docs only.
"""

import os
import sys
import tomllib
import warnings
from pathlib import Path

import matplotlib
from sphinx_gallery.sorting import ExplicitOrder

import fastbp

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # `mathml`, and what `bench` writes for readers

from bench import scale_out_report  # noqa: E402
from bench.for_readers import write_page  # noqa: E402

matplotlib.use("agg")
write_page(HERE / "measurements.md")
scale_out_report.write_page(HERE / "workers.md")

project = "fastbp"
author = copyright = "the fastbp developers"
version = release = fastbp.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "mathml",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "_templates", "auto_examples/**/*.ipynb", "auto_examples/**/*.md5"]
templates_path = ["_templates"]
nitpicky = False
default_role = "literal"

if os.environ.get("READTHEDOCS"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
        "sklearn": ("https://scikit-learn.org/stable", None),
    }

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# The Markdown files of the repository are included as they are: where their links lead to here.
LINKS = {
    "bench/README.md": "benchmarks.md",
    "bench/results/steps.md": "measurements.md",
    "bench/results/quality.md": "tables.md",
    "bench/results/scale_out.md": "workers.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": ExplicitOrder(
        [
            "plot_raw_table.py",
            "plot_sure.py",
            "plot_digits.py",
            "plot_larger_than_memory.py",
            "plot_regression.py",
            "plot_text.py",
            "plot_speech.py",
            "plot_quantiles.py",
            "plot_custom_loss.py",
            "plot_grid_search.py",
            "plot_halving.py",
            "plot_inside.py",
            "*",
        ]
    ),
    "doc_module": ("fastbp",),
    "reference_url": {"fastbp": None},
    "backreferences_dir": "auto_examples/used",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "capture_repr": ("_repr_html_",),  # not repr: `<... object at 0x...>` tells nobody anything
    "copyfile_regex": r"^$",
}
# An example that warns is an example with a fault.
warnings.filterwarnings("error", module="fastbp")

html_theme = "pydata_sphinx_theme"
html_title = f"fastbp {release}"
html_static_path = ["_static"]
html_css_files = ["fastbp.css"]
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_theme_options = {
    "logo": {
        "text": "fastbp",
        "image_light": "_static/logo.svg",
        "image_dark": "_static/logo.svg",
    },
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "show_toc_level": 2,  # the groups of "How do I ..." stand beside it
    "collapse_navigation": True,
}
# The repository's address, where `pyproject.toml` names it.
_urls = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"].get(
    "urls", {}
)
if "Repository" in _urls:
    html_theme_options["icon_links"] = [
        {"name": "Repository", "url": _urls["Repository"], "icon": "fa-solid fa-code-branch"}
    ]
html_sidebars = {
    "get_started": [],
    "migration": [],
    "changelog": [],
    "measurements": [],
    "workers": [],
    "tables": [],
}


def lead_links_here(app, path, parent, content):
    """Point the links of an included Markdown file to pages of this site."""
    for target, page in LINKS.items():
        content[0] = content[0].replace(f"]({target})", f"]({page})")


def setup(app):
    """Connect what is defined here."""
    app.connect("include-read", lead_links_here)
