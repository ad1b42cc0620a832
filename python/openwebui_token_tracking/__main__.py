"""``python -m openwebui_token_tracking``: the command ``owui-token-tracking``."""

from openwebui_token_tracking.cli import main

if __name__ == "__main__":
    main()
