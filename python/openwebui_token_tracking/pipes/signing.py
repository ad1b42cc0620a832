"""Signs who asks, as Open WebUI does for its connections, so that a gateway believes no one else.

A gateway that has Open WebUI's secret accepts signed users only. The form is Open WebUI's own: a JSON Web Token (RFC 7519) by
HMAC-SHA256 (RFC 7515, appendix A.1), which needs nothing but the standard library.
"""

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from typing import Any

# Seconds for which the gateway accepts a signature, as in Open WebUI: it is made for each request anew.
_VALID = 300


def signed_user(user: Mapping[str, Any]) -> dict[str, str]:
    """The header with the signed user; nothing if Open WebUI's environment has no secret."""
    # Read as Open WebUI does: blanks are no secret.
    secret = os.environ.get("FORWARD_USER_INFO_HEADER_JWT_SECRET", "").strip()
    if not secret:
        return {}
    now = int(time.time())
    about = {name: str(user.get(name) or "") for name in ("email", "name", "role")}
    claims = {"sub": str(user["id"]), **about, "iss": "open-webui", "iat": now, "exp": now + _VALID}
    signed = f"{_encoded(_json({'alg': 'HS256', 'typ': 'JWT'}))}.{_encoded(_json(claims))}"
    signature = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest()
    name = os.environ.get("FORWARD_USER_INFO_HEADER_JWT") or "X-OpenWebUI-User-Jwt"
    return {name: f"{signed}.{_encoded(signature)}"}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
