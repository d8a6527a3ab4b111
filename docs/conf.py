"""The documents' site: ``make docs`` builds it into docs/_build/html."""

import sys
from pathlib import Path

import latentdiff

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "latentdiff"
author = "The latentdiff developers"
copyright = author
version = release = latentdiff.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "reference_from_code",
    "outside_files",
    "sampling_page",
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]

# Headings have the anchors that GitHub gives them, so that page.md#anchor leads to the same place on both.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
# The tests run the notebook; the site shows the outputs that it holds.
nb_execution_mode = "off"

# Of the references in docstrings only those to latentdiff must lead somewhere: the site of torch is not asked. What is
# in latentdiff, but not on these pages, may be named too (reference_from_code.py).
nitpick_ignore_regex = [("py:.*", r"(?!latentdiff\.).*")]
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False
highlight_language = "text"

html_theme = "furo"
html_title = "latentdiff"
html_static_path = ["_static"]
html_css_files = ["latentdiff.css"]
html_copy_source = False
