"use strict";
// Puts newer sections in the place of older ones, as the server sends them. Nothing else.
const connection = document.getElementById("connection");
let source = null;
let retry = 0;
let shown = new Date();

// Said only when it changes, as it is read out to those who listen. What is old must not look well.
function say(text, lost) {
  if (connection.textContent !== text) connection.textContent = text;
  document.documentElement.classList.toggle("lost", lost);
}

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
    shown = new Date();
    say("Live.", false);
  };
  source.onerror = () => {
    say("No connection to dnsguard: this is how it was at " + shown.toLocaleTimeString() + ".", true);
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
