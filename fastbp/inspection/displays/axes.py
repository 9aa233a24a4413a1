"""What the pictures share: colours, axes and their parts."""

# Okabe & Ito (2008), Color universal design: told apart by everybody, and here by lightness too.
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "#8c8c8c"


def import_pyplot():
    """Return pyplot; where it is missing, say how to get it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            'fastbp\'s pictures need matplotlib. Install it: `pip install "fastbp[plot]"`.'
        ) from error
    return plt


def new_axes(ax, **settings):
    """Return `ax`, or the Axes of a new figure."""
    plt = import_pyplot()
    return plt.subplots(layout="constrained", **settings)[1] if ax is None else ax


def divide(ax, title, n_rows, n_columns, **settings):
    """Hide `ax` and return the grid that takes its place; a figure of its own gets the title."""
    from matplotlib.gridspec import GridSpecFromSubplotSpec

    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax must be a subplot (plt.subplots), so that it can be divided.")
    ax.set_axis_off()
    if title is not None and ax.figure.axes == [ax]:
        ax.figure.suptitle(title)
    return GridSpecFromSubplotSpec(n_rows, n_columns, subplot_spec=place, **settings)


def legend_above(ax, **settings):
    """Put the legend above the axes, in two columns, where it covers no curve; return it."""
    settings = {"ncols": 2, "frameon": False, "fontsize": "small", **settings}
    return ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), **settings)


def title_above_legend(ax, title, legend):
    """Write a title over the legend that stands above the axes (None: over the axes)."""
    if legend is None:
        ax.set_title(title)
        return
    n_rows = -(-len(legend.get_texts()) // 2)
    ax.set_title(title, pad=10 + 15 * n_rows)


def integer_ticks(axis):
    """Put ticks at whole numbers only, be there a single one."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
