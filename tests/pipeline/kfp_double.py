"""A double of the Kubeflow Pipelines API: HTTP on loopback, as much of it as a submission asks for. No Kubeflow."""

import contextlib
import email
import http.server
import json
import re
import threading
import urllib.parse


class Double:
    """What it was asked, and what it answers."""

    def __init__(self):
        self.pipelines, self.versions, self.experiments, self.runs, self.recurring = {}, {}, {}, {}, {}
        self.uploads, self.tokens = [], []
        self.token = ""
        """The one it accepts; "": it asks for none."""
        self.progress = []
        """Answers to successive questions for a run: (its state, task -> state)."""

    def answer(self, method, path, query, body, headers):
        """(status, JSON)."""
        self.tokens.append(headers.get("Authorization", ""))
        if path == "/apis/v2beta1/healthz":
            return 200, {"multi_user": False}
        if self.token and self.tokens[-1] != f"Bearer {self.token}":
            return 401, {"error": "Unauthenticated", "code": 16}
        match (method, path):
            case ("GET", "/apis/v2beta1/pipelines"):
                return 200, {"pipelines": _called(query, self.pipelines)}
            case ("POST", "/apis/v2beta1/pipelines/upload"):
                name = query["name"][0]
                self.uploads.append(body)
                self.pipelines[name] = {"pipeline_id": f"p{len(self.pipelines)}", "display_name": name}
                return 200, self.pipelines[name]
            case ("POST", "/apis/v2beta1/pipelines/upload_version"):
                name, pipeline = query["name"][0], query["pipelineid"][0]
                if name in self.versions:
                    return 409, {"error": f"Already exist error: version name {name}", "code": 6}
                self.uploads.append(body)
                number = f"v{len(self.versions)}"
                self.versions[name] = {"pipeline_version_id": number, "pipeline_id": pipeline, "display_name": name}
                return 200, self.versions[name]
            case ("GET", "/apis/v2beta1/experiments"):
                return 200, {"experiments": _called(query, self.experiments)}
            case ("POST", "/apis/v2beta1/experiments"):
                self.experiments[body["display_name"]] = {**body, "experiment_id": f"e{len(self.experiments)}"}
                return 200, self.experiments[body["display_name"]]
            case ("POST", "/apis/v2beta1/runs"):
                self.runs[f"r{len(self.runs)}"] = body
                return 200, {**body, "run_id": f"r{len(self.runs) - 1}", "state": "PENDING"}
            case ("POST", "/apis/v2beta1/recurringruns"):
                self.recurring[f"s{len(self.recurring)}"] = body
                return 200, {**body, "recurring_run_id": f"s{len(self.recurring) - 1}"}
            case ("GET", _) if path.rpartition("/")[2] in self.runs:
                state, tasks = self.progress.pop(0) if len(self.progress) > 1 else self.progress[0]
                details = [{"display_name": name, "state": told} for name, told in tasks.items()]
                return 200, {"run_id": "r0", "state": state, "run_details": {"task_details": details}}
        return 404, {"error": f"the double knows no {method} {path}"}


def _called(query, known):
    """Those that the filter asks for."""
    asked = json.loads(query["filter"][0])["predicates"][0]
    wanted = asked.get("stringValue") or asked["string_value"]
    return [value for name, value in known.items() if name == wanted]


def _uploaded(headers, content):
    """The file of a multipart form."""
    message = email.message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\n\n" + content)
    [part] = message.get_payload()
    return part.get_payload(decode=True).decode()


@contextlib.contextmanager
def serving(double):
    """Serves it; yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self):
            url = urllib.parse.urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_form = re.match("multipart/", self.headers.get("Content-Type") or "")
            body = _uploaded(self.headers, content) if is_form else json.loads(content or b"null")
            query = urllib.parse.parse_qs(url.query)
            status, answer = double.answer(self.command, url.path, query, body, self.headers)
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_):
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
