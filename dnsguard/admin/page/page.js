"use strict";
// Puts newer sections in the place of older ones, as the server sends them. Nothing else.
const connection = document.getElementById("connection");
let source = null;
let retry = 0;

function show(parts) {
  for (const [id, text] of Object.entries(parts)) {
    if (id === "title") document.title = text;
    else {
      const place = document.getElementById(id === "said" ? "live" : id);
      if (place) place.innerHTML = text;
    }
  }
}

function begin() {
  clearTimeout(retry);
  source = new EventSource("/api/v1/events");
  source.onmessage = (event) => {
    show(JSON.parse(event.data));
    connection.className = "";
    connection.textContent = "Live.";
  };
  source.onerror = () => {
    connection.className = "lost";
    connection.textContent =
      "No connection to dnsguard: what is shown is from " + new Date().toLocaleTimeString() + " or before.";
    if (source && source.readyState === EventSource.CLOSED) retry = setTimeout(begin, 5000);
  };
}

function end() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? end() : source || begin()));
if (!document.hidden) begin();
