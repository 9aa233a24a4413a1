"""The documentation as it was built: public names, links, and what a reader should not meet.

    sphinx-build -W docs docs/_build/html && python -m checks.site docs/_build/html

Links within the site lead to pages and places that are there; links to other sites are counted, not
followed, so that the check needs no network (``sphinx-build -b linkcheck`` follows them).
"""

import argparse
import inspect
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import fastbp
from checks.figures import Figures

# What users looked for and did not find, in November 2026.
SOUGHT = {
    "index.html": (
        "#own-validation", "#metadata-routing", "#class-weights", "#after-a-crash",
        "#sure-of-classes", "#to-onnx", "#to-c", "#flat-loss", "#how-do-i",
    ),
    "api/fastbp.BackpropClassifier.html": (
        "fit", "X_val", "partial_fit", "transform", "predict_proba", "to_c", "to_onnx",
        "to_sklearn", "classes_", "get_params",
    ),
    "api/fastbp.BackpropSearchCV.html": ("predict", "predict_proba", "score", "transform"),
    "api/fastbp.TabularClassifier.html": ("fit", "predict_proba", "return_std", "reduced"),
    "guide/index.html": ("warm start", "early stopping", "class imbalance", "patience", "eval_set",
                         "restore_best_weights", "epochs"),
}  # fmt: skip
# As many characters as a line of code may have at 1300 px: `docs/_static/fastbp.css`.
LONGEST = 102
# scikit-learn's protocol of callbacks: called by it, and left out of the reference.
PROTOCOL = {"setup", "teardown", "on_fit_task_begin", "on_fit_task_end"}


def read_pages(folder):
    """Return the text of each page by its path from `folder`."""
    return {
        path.relative_to(folder).as_posix(): path.read_text("utf-8")
        for path in sorted(folder.rglob("*.html"))
        if "_static" not in path.parts  # templates of the theme
    }


def find_broken(pages, folder):
    """List links of the site to pages or places that it lacks, and count those to other sites."""
    places = {name: set(re.findall(r'\bid="([^"]+)"', text)) for name, text in pages.items()}
    broken, elsewhere = [], set()
    for name, text in pages.items():
        for link in re.findall(r'\b(?:href|src)="([^"]+)"', text):
            parts = urlsplit(unescape(link))
            if parts.scheme in ("http", "https", "mailto"):
                elsewhere.add(link)
                continue
            if parts.scheme or link.startswith("//"):
                continue
            page = (Path(name).parent / unquote(parts.path)) if parts.path else Path(name)
            target = (folder / page).resolve()
            if not target.exists():
                broken.append(f"{name}: {link}")
                continue
            inside = target.relative_to(folder.resolve()).as_posix()
            if (
                parts.fragment
                and inside in places
                and unquote(parts.fragment) not in places[inside]
            ):
                broken.append(f"{name}: {link}")
    return sorted(set(broken)), elsewhere


def find_long_lines(pages):
    """List lines of code and reports that a page would cut at its right edge."""
    found = []
    for name, text in pages.items():
        for block in re.findall(r"<pre[^>]*>(.*?)</pre>", text, re.S):
            lines = unescape(re.sub(r"<[^>]+>", "", block)).split("\n")
            found += [f"{name}: {line}" for line in lines if len(line) > LONGEST]
    return found


def find_absent(pages):
    """List public classes, functions and methods without a place of their own in the reference."""
    text = "".join(text for name, text in pages.items() if name.startswith("api/"))
    places = set(re.findall(r'\bid="([^"]+)"', text))
    wanted = []
    for name in fastbp.__all__:
        thing = getattr(fastbp, name)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            wanted.append(f"fastbp.{name}")
        if inspect.isclass(thing):
            wanted += [
                f"fastbp.{name}.{method}"
                for method, value in inspect.getmembers(thing, callable)
                if not method.startswith("_")
                and method not in PROTOCOL
                and getattr(value, "__module__", "").startswith("fastbp")
            ]
    return [name for name in wanted if name not in places]


def check_site(folder):
    """Check a built site, and end the program."""
    figures = Figures(f"site in {folder}")
    pages = read_pages(folder)
    figures.add("pages", len(pages), least=60)
    for page, words in SOUGHT.items():
        text = pages.get(page, "")
        absent = [word for word in words if word.lower() not in text.lower()]
        figures.require(f"{page} tells what is sought", not absent, ", ".join(absent))
    absent = find_absent(pages)
    figures.require("public names have their place", not absent, ", ".join(absent[:5]))
    broken, elsewhere = find_broken(pages, folder)
    figures.require("links within the site lead somewhere", not broken, "; ".join(broken[:5]))
    figures.say("links to other sites, not followed", str(len(elsewhere)), "", True)
    long = find_long_lines(pages)
    figures.require("no line of code is cut", not long, "; ".join(long[:5]))
    scripts = [
        f"{name}: {source}"
        for name, text in pages.items()
        for source in re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]+)"', text)
    ]
    figures.require("nothing is fetched from a server", not scripts, "; ".join(scripts[:3]))
    addresses = [name for name, text in pages.items() if re.search(r"object at 0x[0-9a-f]", text)]
    figures.require("no addresses of objects", not addresses, ", ".join(addresses[:5]))
    untranslated = [
        name for name, text in pages.items() if "<math" in text and re.search(r"<mi>\\", text)
    ]
    figures.require("formulas are translated", not untranslated, ", ".join(untranslated))
    figures.finish()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what sphinx-build wrote")
    check_site(parser.parse_args().folder)


if __name__ == "__main__":
    main()
