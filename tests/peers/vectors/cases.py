"""Other people's test cases of HTTP/1, read from their packages and printed in one form: a JSON object a line. Left out are the few that
they call valid and that break off within their body: their parsers do not read it.

What a case is expected to become is its authors' word; what Postern does with it is judged by `tests/wire_vectors.rs`.

    cases.py FOLDER
"""

import base64
import json
import pathlib
import re
import sys

import yaml


def desync(folder):
    """http_desync_guardian: what it calls severe or ambiguous has two readings; the rest may go on."""
    for file in sorted(folder.glob("*.yaml")):
        for number, case in enumerate(yaml.safe_load(file.read_text()) or []):
            lines = [f"{case['method']} {case['uri']} {case['version']}".rstrip()]
            for header in case.get("headers") or []:
                lines.append(f"{header['name']}: {header['value']}")
            head = "\r\n".join(lines) + "\r\n\r\n"
            tier = case["expected"]["tier"]
            body = body_for(case.get("headers") or [])
            yield {
                "name": f"http_desync_guardian {file.stem} {number}: {case['name']}",
                "bytes": head.encode() + body,
                "is_valid": tier in ("Compliant", "Acceptable"),
                "is_cut_short": False,
                "method": case["method"],
                "body": None,
            }


def body_for(headers):
    """The cases are heads; a body of the length that they name goes with them."""
    named = {str(header["name"]).strip().lower(): str(header["value"]).strip() for header in headers}
    if named.get("transfer-encoding", "").lower() == "chunked":
        return b"0\r\n\r\n"
    length = named.get("content-length", "")
    return b"x" * int(length) if length.isascii() and length.isdigit() and len(length) < 7 else b""


def gunicorn(folder):
    """gunicorn: bytes beside a module that says what its parser is to make of them."""
    sys.path.insert(0, str(folder))
    sys.path.insert(0, str(folder / "tests"))
    import treq

    for kind in ("valid", "invalid"):
        for file in sorted((folder / "tests" / "requests" / kind).glob("*.http")):
            expected = treq.load_py(str(file.with_suffix(".py")))["request"]
            case = treq.request(str(file), expected)
            first = case.expect[0] if kind == "valid" else {}
            yield {
                "name": f"gunicorn {kind}/{file.stem}",
                "bytes": case.data,
                "is_valid": kind == "valid",
                "is_cut_short": getattr(expected, "__name__", "") == "NoMoreData" or "missing_final_crlf" in file.stem,
                "method": first.get("method"),
                "body": first.get("body"),
            }


def printed(case):
    return json.dumps({**case, "bytes": coded(case["bytes"]), "body": coded(case["body"])})


def coded(data):
    data = data.encode() if isinstance(data, str) else data
    return None if data is None else base64.b64encode(data).decode()


def main():
    folder = pathlib.Path(sys.argv[1])
    for case in [*desync(folder / "http_desync_guardian"), *gunicorn(folder / "gunicorn")]:
        if not (case["is_valid"] and breaks_off(case["bytes"])):
            print(printed(case))


def breaks_off(data):
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = re.findall(rb"^content-length:\s*(\d+)\s*$", head, re.IGNORECASE | re.MULTILINE)
    return len(lengths) == 1 and int(lengths[0]) > len(body)


if __name__ == "__main__":
    main()
