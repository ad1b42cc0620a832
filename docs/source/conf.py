"""How the documentation is built: `sphinx-build -W -b html docs/source docs/build/html`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "python")]

project = "Open WebUI Token Tracking"
author = copyright = "the contributors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "openapi"]
source_suffix = {".md": "markdown"}
html_theme = "furo"
html_title = project
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

nitpicky = True
nitpick_ignore_regex = [
    # Types of other projects, whose inventories would need a network.
    (r"py:.*", r"(collections\.abc|decimal|uuid|datetime|pydantic|sqlalchemy|aiohttp|typing)\..*"),
    # What is not part of the interface.
    (r"py:.*", r"openwebui_token_tracking\.(client\..*|user\._User)"),
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "exclude-members": "model_config"}
autodoc_typehints_format = "short"
