"""One request, to learn whether somebody answers."""

import http.client

from .tls import trusting


def answers(address: str, path: str, tls: bool = False) -> bool:
    """Whether a GET is answered with 200."""
    if tls:
        connection = http.client.HTTPSConnection(address, timeout=5, context=trusting())
    else:
        connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        return response.status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
