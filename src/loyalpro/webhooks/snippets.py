"""Receivers in seven frameworks, written for one endpoint: its path, and the event types that it is subscribed to.

Each one reads the secret from `LOYALPRO_WEBHOOK_SECRET`, checks the signature over the raw bytes before anything else, and
answers 401 when it is wrong. A program whose secret is missing never accepts a request.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.record import record
from loyalpro.webhooks.entities import ALL_TYPES

Framework = Literal["fastapi", "flask", "django", "nextjs", "express", "go", "php"]

USUAL_PATH: Final = "/webhooks"
_PLAIN_PATH: Final = re.compile(r"/|(/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.~-]+)+/?", re.ASCII)
"""The paths that every router takes literally."""


@record
class Snippet:
    """A receiver. `language`: as Pygments names it. `path`: the path that it is written for.

    `is_other_path`: the path is not that of the endpoint, because routers would take that one for a pattern.
    """

    framework: Framework
    name: str
    file_name: str
    language: str
    code: str
    path: str
    is_other_path: bool


def snippet(framework: Framework, url: str, types: Sequence[str]) -> Snippet:
    """The receiver for an endpoint. `types`: what it is subscribed to, or `*` for every type that exists now."""
    own_path = urlsplit(url).path or "/"
    path = own_path if _PLAIN_PATH.fullmatch(own_path) else USUAL_PATH
    form = _FORMS[framework]
    chosen = list(EVENT_TYPES) if ALL_TYPES in types else [each for each in EVENT_TYPES if each in types]
    cases = "".join(form.case(each, _SHOWN[each]) for each in chosen)
    code = _slash_note(framework, path) + form.code.replace("@PATH@", path).replace(
        "@ROUTE@", path.lstrip("/")
    ).replace("@CASES@", cases)
    return Snippet(framework, form.name, form.file_name(path), form.language, code, path, path != own_path)


def _slash_note(framework: Framework, path: str) -> str:
    """Next.js redirects a path that ends in a slash, and no redirect is followed."""
    needed = framework == "nextjs" and path.endswith("/") and path != "/"
    return "// next.config.ts needs trailingSlash: true, because the URL ends with a slash.\n" if needed else ""


_SHOWN: Final[Mapping[str, Sequence[str]]] = {
    "customer.created": ("source",),
    "customer.updated": ("changed",),
    "customer.deleted": ("customer_id", "reason"),
    "customer.tier_changed": ("customer_id", "direction"),
    "points.earned": ("customer_id", "points"),
    "points.redeemed": ("customer_id", "points"),
    "points.expired": ("customer_id", "points"),
    "points.adjusted": ("customer_id", "points"),
    "transaction.completed": ("customer_id", "points_earned"),
    "transaction.refunded": ("transaction_id", "amount"),
    "fraud.detected": ("case_id", "severity"),
    "churn.risk": ("customer_id", "risk_level"),
}
"""The fields of `data` that a receiver prints for each type, so that it can be seen that the event has arrived."""


@record
class _Form:
    """How a receiver is written. `before`, `line` and `after` make a case; `field` and `joint` name the fields that it prints.

    `file`: its file name; `*` stands for the path without its slashes at both ends.
    """

    name: str
    file: str
    language: str
    code: str
    before: str
    line: str
    after: str
    field: str
    joint: str = ", "

    def case(self, event_type: str, names: Sequence[str]) -> str:
        fields = self.joint.join(self.field.format(name) for name in names)
        return self.before.format(event_type) + self.line.format(fields) + self.after

    def file_name(self, path: str) -> str:
        return self.file.replace("*/", "/".join([*_folders(path), ""]))


def _folders(path: str) -> list[str]:
    """The folders that make Next.js answer a path: one whose name begins with an underscore would be private."""
    return [re.sub("^_", "%5F", each) for each in path.split("/") if each]


def _python(name: str, file: str, code: str) -> _Form:
    return _Form(
        name,
        file,
        "python",
        code,
        before='        case "{}":\n',
        line='            print(event["type"], {})\n',
        after="",
        field='data["{}"]',
    )


_FASTAPI: Final = """\
import hashlib
import hmac
import json
import os

from fastapi import FastAPI, HTTPException, Request

SECRET = os.environ["LOYALPRO_WEBHOOK_SECRET"].encode()
app = FastAPI()


@app.post("@PATH@")
async def receive(request: Request) -> dict[str, bool]:
    body = await request.body()
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    given = request.headers.get("x-loyalpro-signature", "")
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise HTTPException(401)
    event = json.loads(body)
    data = event["data"]
    match event["type"]:
@CASES@    return {"received": True}
"""

_FLASK: Final = """\
import hashlib
import hmac
import json
import os

from flask import Flask, abort, request

SECRET = os.environ["LOYALPRO_WEBHOOK_SECRET"].encode()
app = Flask(__name__)


@app.post("@PATH@")
def receive() -> dict[str, bool]:
    body = request.get_data()
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    given = request.headers.get("x-loyalpro-signature", "")
    if not hmac.compare_digest(expected.encode(), given.encode()):
        abort(401)
    event = json.loads(body)
    data = event["data"]
    match event["type"]:
@CASES@    return {"received": True}
"""

_DJANGO: Final = """\
import hashlib
import hmac
import json
import os

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

SECRET = os.environ["LOYALPRO_WEBHOOK_SECRET"].encode()


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    body = request.body
    expected = hmac.new(SECRET, body, hashlib.sha256).hexdigest()
    given = request.headers.get("x-loyalpro-signature", "")
    if not hmac.compare_digest(expected.encode(), given.encode()):
        return HttpResponse(status=401)
    event = json.loads(body)
    data = event["data"]
    match event["type"]:
@CASES@    return JsonResponse({"received": True})


urlpatterns = [path("@ROUTE@", receive)]
"""

_NEXTJS: Final = """\
import { createHmac, timingSafeEqual } from "node:crypto";

const secret = process.env.LOYALPRO_WEBHOOK_SECRET!;

export async function POST(request: Request): Promise<Response> {
  const body = Buffer.from(await request.arrayBuffer());
  const expected = Buffer.from(createHmac("sha256", secret).update(body).digest("hex"));
  const given = Buffer.from(request.headers.get("x-loyalpro-signature") ?? "");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    return new Response(null, { status: 401 });
  }
  const event = JSON.parse(body.toString());
  switch (event.type) {
@CASES@  }
  return Response.json({ received: true });
}
"""

_EXPRESS: Final = """\
const crypto = require("node:crypto");
const express = require("express");

const secret = process.env.LOYALPRO_WEBHOOK_SECRET;
const app = express();

app.post("@PATH@", express.raw({ type: "application/json" }), (request, response) => {
  const expected = Buffer.from(crypto.createHmac("sha256", secret).update(request.body).digest("hex"));
  const given = Buffer.from(request.get("x-loyalpro-signature") ?? "");
  if (given.length !== expected.length || !crypto.timingSafeEqual(given, expected)) {
    return response.sendStatus(401);
  }
  const event = JSON.parse(request.body);
  switch (event.type) {
@CASES@  }
  response.json({ received: true });
});

app.listen(8080);   // behind a proxy that terminates HTTPS: webhooks are only sent over HTTPS
"""

_GO: Final = """\
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
)

var secret = []byte(os.Getenv("LOYALPRO_WEBHOOK_SECRET"))

type event struct {
	Type string         `json:"type"`
	Data map[string]any `json:"data"`
}

func receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	expected := hex.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(expected), []byte(r.Header.Get("X-LoyalPro-Signature"))) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch e.Type {
@CASES@	}
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"received":true}`)
}

func main() {
	if len(secret) == 0 {
		log.Fatal("Set LOYALPRO_WEBHOOK_SECRET.")
	}
	http.HandleFunc("@PATH@", receive)
	log.Fatal(http.ListenAndServe(":8080", nil)) // behind a proxy that terminates HTTPS: webhooks are only sent over HTTPS
}
"""

_PHP: Final = """\
<?php
// Let the web server run this file for POST @PATH@.

$secret = getenv('LOYALPRO_WEBHOOK_SECRET');
if (!$secret) {
    http_response_code(500);
    error_log('Set LOYALPRO_WEBHOOK_SECRET.');
    exit;
}

$body = file_get_contents('php://input');
$expected = hash_hmac('sha256', $body, $secret);
if (!hash_equals($expected, $_SERVER['HTTP_X_LOYALPRO_SIGNATURE'] ?? '')) {
    http_response_code(401);
    exit;
}

$event = json_decode($body, true);
$data = $event['data'];
switch ($event['type']) {
@CASES@}

header('Content-Type: application/json');
echo json_encode(['received' => true]);
"""

_FORMS: Final[Mapping[Framework, _Form]] = {
    "fastapi": _python("FastAPI", "receiver.py", _FASTAPI),
    "flask": _python("Flask", "receiver.py", _FLASK),
    "django": _python("Django", "webhook_urls.py", _DJANGO),
    "nextjs": _Form(
        "Next.js",
        "app/*/route.ts",
        "typescript",
        _NEXTJS,
        before='    case "{}":\n',
        line="      console.log(event.type, {});\n",
        after="      break;\n",
        field="event.data.{}",
    ),
    "express": _Form(
        "Express",
        "receiver.js",
        "javascript",
        _EXPRESS,
        before='    case "{}":\n',
        line="      console.log(event.type, {});\n",
        after="      break;\n",
        field="event.data.{}",
    ),
    "go": _Form(
        "Go",
        "main.go",
        "go",
        _GO,
        before='\tcase "{}":\n',
        line="\t\tlog.Println(e.Type, {})\n",
        after="",
        field='e.Data["{}"]',
    ),
    "php": _Form(
        "PHP",
        "webhooks.php",
        "php",
        _PHP,
        before="    case '{}':\n",
        line="        error_log(json_encode([$event['type'], {}]));\n",
        after="        break;\n",
        field="$data['{}']",
    ),
}

FRAMEWORKS: Final[Mapping[Framework, str]] = {framework: form.name for framework, form in _FORMS.items()}
"""The frameworks in the order in which they are shown, with their names."""
