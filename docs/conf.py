"""How Sphinx builds this documentation: ``make docs``."""

import wshost

project = "wshost"
author = "The wshost developers"
copyright = f"2026, {author}"
version = release = wshost.__version__

extensions = ["myst_parser"]
exclude_patterns = ["_build", "examples"]
# Headings can be linked to, as on GitHub.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"wshost {release}"
html_static_path = ["_static"]
html_css_files = ["docs.css"]
