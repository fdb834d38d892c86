"""An engine behind HTTP that writes the same pair about every picture, and what a run needs to be told to ask it."""

from __future__ import annotations

import base64
import io
import json
from http.server import BaseHTTPRequestHandler

from PIL import Image

POISON = (1, 2, 3)  # the colour of pictures that the server dies of


class PoisonedEngine(BaseHTTPRequestHandler):
    """Writes the same pair about every picture, but for the poisonous."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        urls = [
            p["image_url"]["url"] for m in body["messages"] for p in m["content"] if p["type"] == "image_url"
        ]
        pictures = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]
        status = 500 if any(p.getpixel((0, 0)) == POISON for p in pictures) else 200
        # A colour decides, so that images do not all say the same.
        number = pictures[0].getpixel((0, 0))[0] if pictures else 0
        text = f"Question: What number is it? Answer: It is number {number}."
        if "Check this" in json.dumps(body):
            text = f"Evidence: seen. Verdict: {'yes' if number % 3 else 'no'}"
        reply = {
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3},
        }
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


def settings(address: str, corpus: str, output: str, *more: str) -> list[str]:
    """A small run of the starter's prompts against the engine there."""
    return [
        f"corpus={corpus}",
        f"output={output}",
        "engines.generator.backend=openai",
        f"engines.generator.base_url={address}",
        "engines.generator.retries=1",
        "drafts_per_image=2",
        "kinds=[color,ocr]",
        "rounds=0",
        "rewrite.share=0",
        "reformulate={bool_share: 0, choice_share: 0}",
        *more,
    ]
