"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const LINE = 0, AT = 1, WHO = 2, KIND = 3, SAID = 4, FROM = 5;
  const events = data.events, end = Math.max(1, data.end), lanes = data.replicas;
  const ms = (us) => (us / 1000).toLocaleString("en", { minimumFractionDigits: 1, maximumFractionDigits: 3 });
  const add = (parent, tag, text, attrs) => {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const name in attrs || {}) made.setAttribute(name, attrs[name]);
    parent.appendChild(made);
    return made;
  };

  // The head.
  $("title").textContent = data.title;
  $("about").textContent = data.about;
  $("verdict").textContent = data.failure ? "Fails: " + data.failure : "Nothing fails";
  $("verdict").className = data.failure ? "bad" : "good";
  $("why").textContent = data.text;
  $("toml").textContent = data.toml;
  for (const line of data.history) add($("history"), "li", line);
  if (data.shrunk) { $("shrunk-box").hidden = false; $("shrunk").textContent = data.shrunk; }

  const KINDS = [
    ["append", "appended"], ["take", "blocks taken"], ["drain", "ordered and applied"], ["undo", "undone"],
    ["open", "opened"], ["engine", "other of the engine"], ["fault", "fault"], ["bad", "goes wrong"],
    ["sync", "sync"], ["disk", "disk"], ["deliver", "bytes arrive"], ["net", "other of the network"],
  ];
  const shown = Object.fromEntries(KINDS.map(([kind]) => [kind, !["disk", "deliver", "net", "sync"].includes(kind)]));
  const colors = {};
  const readColors = () => {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["bg", "fg", "soft", "line", "panel", "accent", "split", "down", "pause", ...KINDS.map(([kind]) => kind)])
      colors[name] = style.getPropertyValue("--" + name).trim();
  };
  readColors();
  for (const [kind, words] of KINDS) {
    const item = add($("legend"), "li", "");
    add(item, "span", "", { style: "background:var(--" + kind + ")" });
    item.append(words);
    const label = add($("kinds"), "label", "");
    const box = add(label, "input", "", { type: "checkbox" });
    box.checked = shown[kind];
    box.addEventListener("change", () => { shown[kind] = box.checked; filter(); draw(); });
    label.append(" " + words);
  }
  for (const [name, words] of [["split", "network split"], ["down", "down"], ["pause", "paused"]]) {
    const item = add($("legend"), "li", "");
    add(item, "span", "", { style: "background:var(--" + name + ");border:1px solid var(--line)" });
    item.append(words);
  }
  lanes.forEach((name, number) => add($("who"), "option", name, { value: String(number) }));

  // Where we are: a moment, and the window of time that is shown.
  let now = 0, at = -1, from = 0, to = end;
  const bad = data.told.since ? data.told.since.bad_ms * 1000 : data.told.found_ms * 1000;

  // Lanes.
  const canvas = $("lanes"), pen = canvas.getContext("2d");
  const TOP = 26, LEFT = 48;
  let width = 0, height = 0, lane = 46;
  const x = (us) => LEFT + (us - from) / (to - from) * (width - LEFT - 8);
  const time = (px) => from + (px - LEFT) / Math.max(1, width - LEFT - 8) * (to - from);
  const y = (number) => TOP + lane * (number + 0.55);
  canvas.setAttribute("aria-label", "Space-time diagram of " + lanes.length + " replicas over " + ms(end) + " milliseconds, with "
    + data.splits.length + " partitions, " + data.downs.length + " outages and " + data.undos.length + " undos");

  function resize() {
    width = canvas.parentElement.clientWidth;
    lane = Math.max(24, Math.min(56, 560 / Math.max(1, lanes.length)));
    height = TOP + lane * lanes.length + 14;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.height = height + "px";
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw();
  }
  /// The position of the first event that is not before a time.
  function position(us) {
    let low = 0, high = events.length;
    while (low < high) { const middle = (low + high) >> 1; if (events[middle][AT] < us) low = middle + 1; else high = middle; }
    return low;
  }
  function draw() {
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const split of data.splits) {
      if (split.to < from || split.from > to) continue;
      const left = Math.max(LEFT, x(split.from)), right = Math.min(width, x(split.to));
      pen.fillStyle = colors.split;
      pen.fillRect(left, TOP - 8, Math.max(1, right - left), height - TOP);
      if (right - left > 70) { pen.fillStyle = colors.fault; pen.fillText(split.what.slice(0, Math.floor((right - left) / 7)), left + 3, TOP - 1); }
    }
    // The grid of time.
    const rough = (to - from) / Math.max(2, width / 130);
    const unit = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map((times) => times * unit).find((size) => size >= rough) || 10 * unit;
    pen.strokeStyle = colors.line; pen.fillStyle = colors.soft; pen.lineWidth = 1;
    for (let tick = Math.ceil(from / step) * step; tick <= to; tick += step) {
      const px = Math.round(x(tick)) + 0.5;
      if (px < LEFT) continue;
      pen.globalAlpha = 0.45; pen.beginPath(); pen.moveTo(px, TOP - 8); pen.lineTo(px, height); pen.stroke(); pen.globalAlpha = 1;
      pen.fillText((tick / 1000).toLocaleString("en") + " ms", px + 2, 9);
    }
    for (const [mark, words] of [[data.plan, "plan"], [data.healed, "healed"]]) {
      if (mark === null || mark < from || mark > to) continue;
      pen.strokeStyle = colors.append; pen.setLineDash([4, 4]); pen.beginPath(); pen.moveTo(x(mark), TOP - 8); pen.lineTo(x(mark), height); pen.stroke(); pen.setLineDash([]);
      pen.fillStyle = colors.append; pen.fillText(words, x(mark) + 3, height - 7);
    }
    lanes.forEach((name, number) => {
      pen.strokeStyle = colors.line; pen.lineWidth = 1.5;
      pen.beginPath(); pen.moveTo(LEFT, y(number)); pen.lineTo(width - 8, y(number)); pen.stroke();
      pen.fillStyle = colors.fg; pen.fillText(name, 8, y(number));
    });
    for (const [spans, color] of [[data.downs, colors.down], [data.pauses, colors.pause]]) for (const span of spans) {
      if (span.r < 0 || span.to < from || span.from > to) continue;
      pen.fillStyle = color;
      pen.fillRect(Math.max(LEFT, x(span.from)), y(span.r) - lane * 0.38, Math.max(3, Math.min(width, x(span.to)) - Math.max(LEFT, x(span.from))), lane * 0.76);
    }
    const first = position(from), last = position(to + 1);
    // Bytes that arrive, when there is room for them.
    if (shown.deliver) {
      pen.strokeStyle = colors.deliver; pen.lineWidth = 1; pen.globalAlpha = last - first > 4000 ? 0.25 : 0.6;
      pen.beginPath();
      for (let number = first; number < last; number++) {
        const event = events[number];
        if (event[KIND] !== "deliver" || event[FROM] < 0 || event[WHO] < 0) continue;
        pen.moveTo(x(Math.max(0, event[AT] - 1000)), y(event[FROM])); pen.lineTo(x(event[AT]), y(event[WHO]));
      }
      pen.stroke(); pen.globalAlpha = 1;
    }
    // Undos go back as arcs to what they take back.
    pen.strokeStyle = colors.undo;
    for (const undo of data.undos) {
      if (undo.at < from || undo.to > to || undo.r < 0) continue;
      const right = x(undo.at), left = x(undo.to), middle = y(undo.r);
      pen.lineWidth = Math.min(5, 1 + Math.log2(1 + undo.n) / 2);
      pen.beginPath(); pen.moveTo(right, middle);
      pen.quadraticCurveTo((left + right) / 2, middle - Math.min(lane * 0.9, 8 + (right - left) / 4), left, middle);
      pen.stroke();
      pen.beginPath(); pen.moveTo(left, middle); pen.lineTo(left + 5, middle - 5); pen.moveTo(left, middle); pen.lineTo(left + 6, middle + 1); pen.stroke();
    }
    const last_px = {};
    for (let number = first; number < last; number++) {
      const event = events[number], kind = event[KIND];
      if (!shown[kind] || kind === "deliver") continue;
      const px = x(event[AT]), row = event[WHO];
      // What would be drawn on top of its like is not.
      const place = kind + row + ":" + Math.round(px);
      if (last_px[kind + row] === place) continue;
      last_px[kind + row] = place;
      pen.fillStyle = colors[kind] || colors.fg;
      const py = row < 0 ? TOP - 4 : y(row);
      if (kind === "append") { pen.beginPath(); pen.arc(px, py, 4, 0, 7); pen.fill(); }
      else if (kind === "fault" || kind === "bad") { pen.beginPath(); pen.moveTo(px, py - 7); pen.lineTo(px + 5, py + 3); pen.lineTo(px - 5, py + 3); pen.fill(); }
      else if (kind === "open") { pen.fillRect(px - 1, py - 9, 2, 18); }
      else if (kind === "undo") { pen.fillRect(px - 3, py - 3, 6, 6); }
      else if (kind === "sync" || kind === "disk") { pen.fillRect(px - 0.5, py + 4, 1.5, lane * 0.28); }
      else { pen.fillRect(px - 1, py - 5, 2, 10); }
    }
    if (data.failure && bad >= from && bad <= to) {
      pen.strokeStyle = colors.bad; pen.lineWidth = 1.5; pen.setLineDash([2, 3]);
      pen.beginPath(); pen.moveTo(x(bad), TOP - 8); pen.lineTo(x(bad), height); pen.stroke(); pen.setLineDash([]);
      pen.fillStyle = colors.bad; pen.fillText("seen", Math.min(width - 34, x(bad) + 3), TOP - 1);
    }
    if (now >= from && now <= to) {
      pen.strokeStyle = colors.accent; pen.lineWidth = 1.5;
      pen.beginPath(); pen.moveTo(x(now), 16); pen.lineTo(x(now), height); pen.stroke();
    }
  }

  // The moment.
  const drains = lanes.map(() => []);
  for (const event of events) if (event[KIND] === "drain" && event[WHO] >= 0) {
    const found = /batches=(\d+)/.exec(event[SAID]);
    if (found) drains[event[WHO]].push([event[AT], Number(found[1])]);
  }
  function lastBefore(list, us) {
    let low = 0, high = list.length;
    while (low < high) { const middle = (low + high) >> 1; if (list[middle][0] <= us) low = middle + 1; else high = middle; }
    return low ? list[low - 1][1] : 0;
  }
  const within = (spans, number, us) => spans.find((span) => span.r === number && span.from <= us && us < span.to);
  const rows = lanes.map((name) => {
    const row = add($("now").tBodies[0], "tr");
    add(row, "th", name, { scope: "row" });
    return [add(row, "td"), add(row, "td"), add(row, "td")];
  });
  function tell() {
    $("clock").textContent = ms(now) + " ms of " + ms(end);
    $("scrub").value = String(Math.round(now / end * 1000));
    $("scrub").setAttribute("aria-valuetext", ms(now) + " milliseconds");
    const seen = lanes.map(() => null);
    let left = lanes.length;
    for (let number = Math.min(position(now + 1), events.length) - 1, steps = 0; number >= 0 && left && steps < 6000; number--, steps++) {
      const who = events[number][WHO];
      if (who >= 0 && !seen[who] && shown[events[number][KIND]]) { seen[who] = events[number]; left--; }
    }
    rows.forEach(([state, count, last], number) => {
      const down = within(data.downs, number, now), paused = within(data.pauses, number, now);
      state.textContent = down ? "down (" + down.what + ")" : paused ? "paused" : "up";
      count.textContent = String(lastBefore(drains[number], now));
      last.textContent = seen[number] ? seen[number][SAID] : "";
    });
  }
  function go(us, number) {
    now = Math.max(0, Math.min(end, us));
    at = number === undefined ? Math.max(0, position(now + 1) - 1) : number;
    if (now < from || now > to) { const span = to - from; from = Math.max(0, Math.min(end - span, now - span / 2)); to = from + span; }
    tell(); draw(); mark();
  }
  function zoom(times, around) {
    const span = Math.max(50, Math.min(end, (to - from) * times)), share = (around - from) / (to - from);
    from = Math.max(0, Math.min(end - span, around - span * share)); to = from + span; draw();
  }
  function pan(us) { const span = to - from; from = Math.max(0, Math.min(end - span, from + us)); to = from + span; draw(); }

  // Playing.
  let playing = false, before = 0;
  function frame(stamp) {
    if (!playing) return;
    const passed = before ? stamp - before : 0;
    before = stamp;
    go(now + passed * 1000 * Number($("speed").value));
    if (now >= end) return stop();
    requestAnimationFrame(frame);
  }
  function stop() { playing = false; $("play").setAttribute("aria-pressed", "false"); $("play").textContent = "Play"; }
  function play() {
    if (playing) return stop();
    if (now >= end) now = 0;
    playing = true; before = 0; $("play").setAttribute("aria-pressed", "true"); $("play").textContent = "Pause"; requestAnimationFrame(frame);
  }

  // The table of events: what passes the filter, a page at a time.
  const PAGE = 200;
  let hits = [], page = 0;
  const lower = events.map((event) => (event[SAID] + " " + (lanes[event[WHO]] || "") + " " + event[KIND]).toLowerCase());
  function filter() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), who = $("who").value;
    hits = [];
    for (let number = 0; number < events.length; number++) {
      const event = events[number];
      if (!shown[event[KIND]] || (who !== "" && String(event[WHO]) !== who)) continue;
      if (words.every((word) => lower[number].includes(word))) hits.push(number);
    }
    page = 0;
    $("hits").textContent = hits.length.toLocaleString("en") + " events"
      + (data.leftOut ? " (" + data.leftOut.toLocaleString("en") + " of " + data.total.toLocaleString("en") + " are not in this page)" : "");
    fill();
  }
  function fill() {
    const body = $("rows");
    body.textContent = "";
    for (const number of hits.slice(page * PAGE, (page + 1) * PAGE)) {
      const event = events[number], row = add(body, "tr");
      row.dataset.number = number;
      add(row, "td", String(event[LINE])).className = "num";
      add(row, "td", ms(event[AT])).className = "num";
      add(row, "td", lanes[event[WHO]] || "all");
      const said = add(row, "td", event[SAID]);
      said.style.color = "var(--" + event[KIND] + ")";
      if (number === at) row.className = "at";
    }
    const pages = Math.max(1, Math.ceil(hits.length / PAGE));
    $("page").textContent = "page " + (page + 1) + " of " + pages;
    $("earlier").disabled = page === 0; $("later").disabled = page + 1 >= pages;
  }
  function mark() {
    // The last hit that is not after the moment.
    let low = 0, high = hits.length;
    while (low < high) { const middle = (low + high) >> 1; if (hits[middle] <= at) low = middle + 1; else high = middle; }
    const hit = low - 1;
    if (hit < 0) return;
    const wanted = Math.floor(hit / PAGE);
    if (wanted !== page) { page = wanted; fill(); }
    for (const old of $("rows").querySelectorAll("tr.at")) old.className = "";
    const row = $("rows").rows[hit - page * PAGE];
    if (row) { row.className = "at"; const box = $("events"); const top = row.offsetTop - box.clientHeight / 2; if (Math.abs(box.scrollTop - top) > box.clientHeight / 3) box.scrollTop = top; }
  }
  function step(way) {
    let low = 0, high = hits.length;
    while (low < high) { const middle = (low + high) >> 1; if (hits[middle] <= at) low = middle + 1; else high = middle; }
    const hit = way > 0 ? low : low - 2 >= 0 && hits[low - 1] === at ? low - 2 : low - 1;
    if (hit >= 0 && hit < hits.length) go(events[hits[hit]][AT], hits[hit]);
  }
  $("rows").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) { const number = Number(row.dataset.number); go(events[number][AT], number); }
  });
  $("search").addEventListener("input", filter);
  $("who").addEventListener("change", filter);
  $("earlier").addEventListener("click", () => { page--; fill(); });
  $("later").addEventListener("click", () => { page++; fill(); });

  // Controls.
  $("play").addEventListener("click", play);
  $("back").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("in").addEventListener("click", () => zoom(0.5, now >= from && now <= to ? now : (from + to) / 2));
  $("out").addEventListener("click", () => zoom(2, (from + to) / 2));
  $("all").addEventListener("click", () => { from = 0; to = end; draw(); });
  const violation = () => { const span = Math.min(end, 400000); from = Math.max(0, Math.min(end - span, bad - span * 0.7)); to = from + span; go(bad); };
  $("found").addEventListener("click", violation);
  $("found").hidden = !data.failure;
  $("scrub").addEventListener("input", () => go(Number($("scrub").value) / 1000 * end));
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); if (event.shiftKey) pan(event.deltaY * (to - from) / 1500); else zoom(event.deltaY > 0 ? 1.25 : 0.8, time(event.offsetX)); }, { passive: false });
  let grip = null;
  canvas.addEventListener("pointerdown", (event) => { grip = { px: event.clientX, from, moved: false }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    if (grip) {
      const shift = (event.clientX - grip.px) / Math.max(1, width - LEFT) * (to - from);
      if (Math.abs(event.clientX - grip.px) > 3) grip.moved = true;
      const span = to - from;
      from = Math.max(0, Math.min(end - span, grip.from - shift)); to = from + span;
      draw();
    } else hover(event);
  });
  canvas.addEventListener("pointerup", (event) => {
    const wasMoved = grip && grip.moved;
    grip = null;
    if (!wasMoved) { const near = nearest(event.offsetX, event.offsetY); if (near >= 0) go(events[near][AT], near); else go(time(event.offsetX)); }
  });
  canvas.addEventListener("pointerleave", () => { $("tip").hidden = true; });
  function nearest(px, py) {
    const row = Math.round((py - TOP) / lane - 0.55);
    let best = -1, least = 10;
    for (let number = position(time(px - 10)); number < events.length && x(events[number][AT]) <= px + 10; number++) {
      const event = events[number];
      if (!shown[event[KIND]] || (event[WHO] >= 0 && event[WHO] !== row)) continue;
      const away = Math.abs(x(event[AT]) - px);
      if (away < least) { least = away; best = number; }
    }
    return best;
  }
  function hover(event) {
    const near = nearest(event.offsetX, event.offsetY), tip = $("tip");
    tip.hidden = near < 0;
    if (near < 0) return;
    const found = events[near];
    tip.textContent = ms(found[AT]) + " ms  " + (lanes[found[WHO]] || "") + "  " + found[SAID];
    tip.style.left = Math.min(event.offsetX + 12, Math.max(0, width - 280)) + "px";
    tip.style.top = event.offsetY + 14 + "px";
  }
  document.addEventListener("keydown", (event) => {
    if (/^(INPUT|SELECT|TEXTAREA|BUTTON)$/.test(event.target.tagName) && event.key !== "Escape") return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      " ": play, "+": () => zoom(0.5, now), "=": () => zoom(0.5, now), "-": () => zoom(2, (from + to) / 2),
      "0": () => { from = 0; to = end; draw(); }, "v": violation, "/": () => $("search").focus(),
      "Home": () => go(0), "End": () => go(end),
      "ArrowLeft": () => (event.shiftKey ? pan(-(to - from) / 8) : step(-1)),
      "ArrowRight": () => (event.shiftKey ? pan((to - from) / 8) : step(1)),
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });

  // Order and links.
  const ROWS = 120, ROW = 24;
  let top = 0;
  const names = data.orders.map((order) => order.replica);
  for (const select of [$("left"), $("right")]) names.forEach((name, number) => add(select, "option", name, { value: String(number) }));
  const wanted = data.told.fork ? [data.told.fork.ours.who, data.told.fork.theirs.who].map((who) => names.indexOf(who.split(" ")[0])) : [];
  if (wanted[0] >= 0) $("left").value = String(wanted[0]);
  $("right").value = String(wanted[1] >= 0 ? wanted[1] : Math.max(0, names.findIndex((_, number) => String(number) !== $("left").value)));
  const same = (a, b) => a && b && a[0] === b[0] && a[1] === b[1];
  function sides() { return [$("left"), $("right")].map((select) => (data.orders[Number(select.value)] || { entries: [], replica: "" })); }
  function fork() {
    const [left, right] = sides();
    const most = Math.max(left.entries.length, right.entries.length);
    for (let place = 0; place < most; place++) if (!same(left.entries[place], right.entries[place])) return place;
    return -1;
  }
  const SVG = "http://www.w3.org/2000/svg";
  function shape(tag, attrs) {
    const made = document.createElementNS(SVG, tag);
    for (const name in attrs) made.setAttribute(name, attrs[name]);
    $("dag").appendChild(made);
    return made;
  }
  function order() {
    const [left, right] = sides(), most = Math.max(left.entries.length, right.entries.length);
    top = Math.max(0, Math.min(top, Math.max(0, most - 1)));
    $("left-name").textContent = left.replica; $("right-name").textContent = right.replica;
    const body = $("order").tBodies[0];
    body.textContent = ""; $("dag").textContent = "";
    const words = (place) => {
      if (!place) return "";
      const [name, , stamp, links, op] = data.entries[place[0]];
      return name + "  w" + place[1] + "  " + (stamp === null ? "" : stamp + " ms  ") + op + (links.length ? "  <- " + links.join(" ") : "");
    };
    const bottom = Math.min(most, top + ROWS);
    const writers = [...new Set(data.entries.map((entry) => entry[1]))].sort();
    const column = (writer) => 24 + writers.indexOf(writer) * 26;
    const rowOf = new Map(left.entries.map((place, number) => [data.entries[place[0]][0], number]));
    $("dag").setAttribute("width", String(40 + writers.length * 26));
    $("dag").setAttribute("height", String(28 + (bottom - top) * ROW));
    writers.forEach((writer) => { shape("text", { x: column(writer) - 8, y: 18 }).textContent = writer; });
    for (let number = top; number < bottom; number++) {
      const place = left.entries[number];
      const row = add(body, "tr");
      if (!same(place, right.entries[number])) row.className = "differs";
      add(row, "td", String(number)).className = "num";
      add(row, "td", words(place), { title: words(place) });
      add(row, "td", same(place, right.entries[number]) ? "the same" : words(right.entries[number]) || "nothing");
      if (!place) continue;
      const [name, writer, , links] = data.entries[place[0]];
      const px = column(writer), py = 28 + (number - top) * ROW + ROW / 2;
      const split = name.lastIndexOf("@"), chain = Number(name.slice(split + 1)) > 1 ? [name.slice(0, split + 1) + (Number(name.slice(split + 1)) - 1)] : [];
      for (const link of links.concat(chain)) {
        const other = rowOf.get(link);
        const ox = column(link.slice(0, link.lastIndexOf("@")).split("'")[0]) || 10;
        const oy = other === undefined ? 14 : 28 + (other - top) * ROW + ROW / 2;
        const edge = shape("path", { class: "edge", d: "M" + px + " " + py + " C" + px + " " + (py + oy) / 2 + " " + ox + " " + (py + oy) / 2 + " " + ox + " " + oy });
        edge.dataset.of = name;
      }
      const dot = shape("circle", { cx: px, cy: py, r: 5 });
      const title = document.createElementNS(SVG, "title");
      title.textContent = words(place);
      dot.appendChild(title);
      row.addEventListener("mouseenter", () => { for (const edge of $("dag").querySelectorAll(".edge")) edge.classList.toggle("hot", edge.dataset.of === name); });
    }
    const place = fork();
    $("fork-text").textContent = place < 0 ? "these orders are the same" : "they differ from place " + place + " on";
    $("fork").disabled = place < 0;
    $("order-page").textContent = "places " + top + " to " + Math.max(top, bottom - 1) + " of " + most;
    $("order-earlier").disabled = top === 0; $("order-later").disabled = bottom >= most;
  }
  const toFork = () => { const place = fork(); if (place >= 0) { top = Math.max(0, place - 8); order(); $("order-box").scrollTop = 0; } };
  for (const select of [$("left"), $("right")]) select.addEventListener("change", order);
  $("fork").addEventListener("click", toFork);
  $("order-earlier").addEventListener("click", () => { top -= ROWS; order(); });
  $("order-later").addEventListener("click", () => { top += ROWS; order(); });

  // Views.
  const views = data.views;
  $("views-text").textContent = views.differ
    ? views.differ.toLocaleString("en") + " of " + views.keys.toLocaleString("en") + " keys are not the same everywhere in the end"
      + (views.rows.length < views.differ ? "; the first " + views.rows.length + " are shown" : "")
    : "All " + views.keys.toLocaleString("en") + " keys are the same everywhere in the end.";
  if (views.differ) {
    const head = add(add($("views"), "thead"), "tr");
    for (const name of ["key", ...views.replicas]) add(head, "th", name, { scope: "col" });
    const body = add($("views"), "tbody");
    for (const [key, values] of views.rows) {
      const row = add(body, "tr");
      add(row, "th", key, { scope: "row" });
      for (const value of values) add(row, "td", value === null ? "\u2014" : value);
    }
  }

  window.addEventListener("resize", resize);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); draw(); });
  // A run that waits in vain is mostly empty: what happened is shown first.
  let busy = 0;
  for (const event of events) if (["append", "take", "undo", "bad"].includes(event[KIND])) busy = event[AT];
  to = Math.min(end, Math.max(busy, data.failure ? bad : 0, 1000) * 1.08);
  filter(); order(); toFork(); resize(); go(data.failure ? bad : 0);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
