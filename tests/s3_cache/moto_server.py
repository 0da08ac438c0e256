"""moto_server.py PORT ID KEY TOKEN: moto's S3 with a bucket `demo`, behind a check of signatures by botocore.

moto itself looks at no signature. So each signed address is signed again, by the library of Amazon's own tools, and must be the same.
"""
import json
import sys
import threading
from urllib.parse import parse_qsl

import boto3
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

port, key_id, key, token = int(sys.argv[1]), *sys.argv[2:5]


class Checked:
    def __init__(self, app):
        self.app = app

    def reason(self, environ):
        query = environ["QUERY_STRING"]
        values = dict(parse_qsl(query, keep_blank_values=True))
        if values.get("X-Amz-Security-Token") != token:
            return "another token"
        given_id, _, region, service, _ = values["X-Amz-Credential"].split("/")
        if (given_id, service) != (key_id, "s3"):
            return "another key"
        names = values["X-Amz-SignedHeaders"].split(";")
        variables = {name: "HTTP_" + name.upper().replace("-", "_") for name in names}
        headers = {name: environ[variable] for name, variable in variables.items()}
        unsigned = {name for name in environ if name.startswith("HTTP_X_AMZ_")} - set(variables.values())
        if unsigned:
            return f"unsigned headers {unsigned}"
        rest = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
        url = f"http://{headers['host']}{environ['REQUEST_URI'].split('?')[0]}?{rest}"
        auth = S3SigV4QueryAuth(Credentials(key_id, key, token), service, region)
        request = AWSRequest(method=environ["REQUEST_METHOD"], url=url, headers=headers)
        request.context["timestamp"] = values["X-Amz-Date"]
        canonical = auth.canonical_request(request)
        signature = auth.signature(auth.string_to_sign(request, canonical), request)
        return None if signature == values["X-Amz-Signature"] else f"the signature is not that of\n{canonical}"

    def __call__(self, environ, start_response):
        if "HTTP_AUTHORIZATION" not in environ:
            reason = self.reason(environ) if "X-Amz-Signature=" in environ["QUERY_STRING"] else "nothing is signed"
            if reason:
                print(reason, file=sys.stderr, flush=True)
                start_response("403 Forbidden", [("Content-Type", "application/xml")])
                return [f"<Error><Code>SignatureDoesNotMatch</Code><Message>{reason}</Message></Error>".encode()]
        return self.app(environ, start_response)


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"


app = Checked(DomainDispatcherApplication(create_backend_app))
server = make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler)

threading.Thread(target=server.serve_forever, daemon=True).start()
client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1",
                      aws_access_key_id=key_id, aws_secret_access_key=key, aws_session_token=token)
client.create_bucket(Bucket="demo")
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "list":
        found = client.list_objects_v2(Bucket="demo").get("Contents", [])
        print(json.dumps({item["Key"]: item["Size"] for item in found}), flush=True)
    elif line.strip() == "uploads":
        print(len(client.list_multipart_uploads(Bucket="demo").get("Uploads", [])), flush=True)
