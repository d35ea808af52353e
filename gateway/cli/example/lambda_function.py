"""The example function of `lambent up --demo`. Change it and run `lambent deploy` on a copy of this directory."""

import json
import os
import time
from typing import Any

STARTED = time.time()
served = 0


def lambda_handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    global served
    served += 1
    http = event.get("requestContext", {}).get("http", {})
    name = (event.get("queryStringParameters") or {}).get("name", "world")
    print(f"hello {name}, request {context.aws_request_id}")
    answer = {
        "message": f"Hello, {name}!",
        "method": http.get("method"),
        "path": event.get("rawPath"),
        "served by this sandbox": served,
        "sandbox age in ms": round((time.time() - STARTED) * 1000),
        "memory limit in MB": int(context.memory_limit_in_mb),
        "runtime": os.environ.get("AWS_EXECUTION_ENV"),
    }
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": json.dumps(answer, indent=2) + "\n"}
