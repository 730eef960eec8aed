// What makes the dashboard quicker. Every page works without it.
"use strict";
(() => {
  const one = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const SLOW_MS = 400, TOAST_MS = 10000, MOST_BACK_OFF_MS = 30000;

  // The server writes times in the zone of the reader.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone) document.cookie = `loyalpro-zone=${zone}; Path=/; Max-Age=31536000; SameSite=Lax`;

  all("select[data-zone]").forEach((each) => { if (one(`[value="${zone}"]`, each)) each.value = zone; });

  const toast = (text) => {
    const line = document.createElement("div");
    line.className = "toast";
    line.textContent = text;
    one("#toasts").append(line);
    fade(line);
  };
  const fade = (line) => setTimeout(() => line.contains(document.activeElement) ? fade(line) : line.remove(), TOAST_MS);

  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      toast("Copied");
    } catch {
      getSelection().selectAllChildren(source);
      toast("Marked. Copy it by keyboard.");
    }
  };

  const steps = [[3600000, "h"], [60000, "min"], [1000, "s"]];
  setInterval(() => document.hidden || all("time[data-relative]").forEach((each) => {
    const ms = Date.now() - Date.parse(each.dateTime);
    const step = ms < 86400000 && steps.find(([size]) => ms >= size);
    if (step) each.textContent = `${Math.floor(ms / step[0])} ${step[1]} ago`;
  }), 1000);

  // What needs a script is hidden until there is one.
  const prepare = (within) => {
    all("button[data-copy][hidden], button[data-dialog][hidden]", within).forEach((each) => { each.hidden = false; });
    all(".toasts:not(.inline) .toast:not([data-fades])", within).forEach((each) => { each.dataset.fades = ""; fade(each); });
  };

  let opener = null;
  const open = (dialog) => {
    if (!dialog || dialog.open) return;
    opener = document.activeElement;
    dialog.showModal();
    dialog.addEventListener("close", () => { if (opener && opener.isConnected) opener.focus(); }, { once: true });
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy], [data-dialog]");
    if (button && button.dataset.copy) copy(button);
    else if (button) open(document.getElementById(button.dataset.dialog));
    const link = event.target.closest("a[href]");
    const here = link && link.target !== "_blank" && link.origin === location.origin && !link.download && !link.hash;
    if (here && !event.defaultPrevented && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.button === 0) start();
  });
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method === "dialog") return;
    if (event.target.dataset.sent) return event.preventDefault();  // a double click
    if (event.target.method === "post") event.target.dataset.sent = "1";
    start();
  });

  // A bar on top of slow requests.
  let timer = 0;
  const slow = document.documentElement.classList;
  const done = () => { clearTimeout(timer); slow.remove("is-slow"); };
  const start = () => { done(); timer = setTimeout(() => slow.add("is-slow"), SLOW_MS); };
  addEventListener("pageshow", () => { done(); all("form[data-sent]").forEach((each) => { delete each.dataset.sent; }); });

  // Polls: none while nobody looks, fewer while they fail, and not all tabs at once.
  const back = new WeakMap();
  const polls = (event) => event.detail.elt.hasAttribute("data-poll");
  document.addEventListener("htmx:beforeRequest", (event) => {
    const waits = back.get(event.detail.elt);
    if (polls(event) && (document.hidden || (waits && Date.now() < waits.until))) event.preventDefault();
    else if (!polls(event)) start();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (!polls(event)) done();
    else if (event.detail.successful) back.delete(event.detail.elt);
    else {
      const ms = Math.min(MOST_BACK_OFF_MS, 2 * ((back.get(event.detail.elt) || {}).ms || 2000));
      back.set(event.detail.elt, { ms, until: Date.now() + ms * (0.8 + 0.4 * Math.random()) });
    }
  });
  document.addEventListener("htmx:responseError", (event) => {
    const type = event.detail.xhr.getResponseHeader("content-type") || "";
    if (!polls(event) && type.startsWith("text/plain")) toast(event.detail.xhr.responseText);
  });
  document.addEventListener("htmx:sendError", (event) => { if (!polls(event)) toast("The server cannot be reached."); });
  document.addEventListener("htmx:load", (event) => prepare(event.detail.elt));

  // Keys mean nothing in a field, and can be switched off in /me.
  let leads = false;
  const rows = () => all("a.row-link").filter((each) => each.offsetParent);
  const move = (by) => {
    const list = rows(), at = list.indexOf(document.activeElement);
    const next = list[at < 0 ? 0 : Math.min(list.length - 1, Math.max(0, at + by))];
    if (next) next.focus();
  };
  const press = (element) => { if (element) element.matches("input, select, textarea") ? element.focus() : element.click(); };
  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input:not([type=checkbox], [type=radio]), select, textarea, [contenteditable]");
    if (event.key === "Escape" && field) return field.blur();
    if (field || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (document.body.dataset.keys === "off" || one("dialog[open]:not(.inline)")) return;
    const key = event.key, led = leads;
    leads = key === "g" && !led;
    if (leads) return;
    const target = led ? one(`[data-go="${CSS.escape(key)}"]`) : one(`[data-key="${CSS.escape(key)}"]`);
    if (target) press(target);
    else if (led) return;
    else if (key === "j" || key === "k") move(key === "j" ? 1 : -1);
    else if (key === "?") open(one("#keys"));
    else return;
    event.preventDefault();
  });

  prepare(document);
})();
