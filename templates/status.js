// Keeps the page current: fetches it again, and puts its parts in place of the old ones. Nothing here is needed to read,
// sort or filter.
"use strict";
(() => {
  const PERIOD = 5_000;
  const PATIENCE = 10_000;
  const TYPING_PAUSE = 250;

  const form = document.querySelector("form");
  const filter = document.getElementById("filter");
  const refreshing = document.getElementById("refreshing");
  const stale = document.getElementById("stale");
  let timer;
  let typing;
  let latest;

  function schedule(delay) {
    clearTimeout(timer);
    if (refreshing.checked && !document.hidden) {
      timer = setTimeout(refresh, delay);
    }
  }

  async function refresh() {
    clearTimeout(timer);
    latest?.abort();
    const request = new AbortController();
    latest = request;
    const limit = setTimeout(() => request.abort(), PATIENCE);
    try {
      const response = await fetch(location.href, { signal: request.signal });
      if (!response.ok) {
        throw new Error(`status ${response.status}`);
      }
      const text = await response.text();
      if (request === latest) {
        show(new DOMParser().parseFromString(text, "text/html"));
      }
    } catch {
      if (request === latest) {
        stale.textContent = "This node does not answer. The page is out of date.";
      }
    } finally {
      clearTimeout(limit);
      if (request === latest) {
        schedule(PERIOD);
      }
    }
  }

  function show(fresh) {
    if (fresh.documentElement.dataset.version !== document.documentElement.dataset.version) {
      location.reload();
      return;
    }
    stale.textContent = "";
    if (isSelecting()) {
      return;
    }
    const focused = document.activeElement?.id;
    for (const part of document.querySelectorAll("[data-live]")) {
      const replacement = fresh.getElementById(part.id);
      if (replacement) {
        part.replaceWith(replacement);
      }
    }
    document.title = fresh.title;
    if (focused && document.activeElement?.id !== focused) {
      document.getElementById(focused)?.focus({ preventScroll: true });
    }
  }

  // Somebody is about to copy an address or a reason.
  function isSelecting() {
    const selection = getSelection();
    const inside = (node) => node?.parentElement?.closest("[data-live]");
    return !selection.isCollapsed && (inside(selection.anchorNode) || inside(selection.focusNode));
  }

  function applyFilter() {
    clearTimeout(typing);
    const fields = new URLSearchParams(new FormData(form));
    if (fields.get("filter").trim() === "") {
      fields.delete("filter");
    }
    history.replaceState(null, "", `?${fields}`);
    refresh();
  }

  filter.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(applyFilter, TYPING_PAUSE);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    applyFilter();
  });
  refreshing.addEventListener("change", () => schedule(0));
  document.addEventListener("visibilitychange", () => schedule(0));
  document.getElementById("refresh").hidden = false;
  schedule(PERIOD);
})();
