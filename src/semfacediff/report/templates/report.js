"use strict";
// Reads the samples from the page and shows the selected ones. Texts are inserted as text, never as HTML.
(function () {
  const PAGE_ROWS = 50, PAGE_CARDS = 12;
  const PANELS = [
    ["labels", "label map"], ["parse", "parse"], ["semantic", "semantic mask"], ["generation", "generation mask"],
    ["blend", "blend mask"], ["difference", "difference × 4"],
  ];
  for (const image of document.querySelectorAll("img[data-picture]")) {
    image.src = document.getElementById(image.dataset.picture).textContent;
  }
  const browser = document.getElementById("browser");
  if (!browser) return;
  const data = JSON.parse(document.getElementById("data").textContent);
  const text = (i) => data.texts[i];
  const rows = data.rows.map(([run, id, attribute, status, prompt, said, values, seen, note]) => ({
    run, id: text(id), attribute: text(attribute), status: text(status), prompt: text(prompt), said: text(said),
    values: values.map((v) => (v === "inf" ? Infinity : v === "-inf" ? -Infinity : v)), seen, note: text(note),
  }));
  const state = { key: data.rank || "id", worst: true, rowPage: 0, cardPage: 0, raw: false };
  const at = (id) => document.getElementById(id);

  function made(tag, properties, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in node && name !== "list") node[name] = value; else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  function shown(value, column) {
    if (value === null) return "";
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    return (column.factor * value).toFixed(column.digits);
  }

  function filled(select, names, everything) {
    select.append(made("option", { value: "", textContent: everything }));
    for (const name of names) select.append(made("option", { value: String(name[0]), textContent: name[1] }));
    select.closest("label").hidden = names.length < 2;
  }

  const unique = (values) => [...new Set(values)];
  const columns = () => data.columns.map((c, i) => [c, i]).filter(([c]) => state.raw || !c.raw);

  // Missing values come last whichever way the rest is sorted; equal ones keep the order of the record.
  function compared(a, b, column, index, forward) {
    const x = index < 0 ? a.id : a.values[index], y = index < 0 ? b.id : b.values[index];
    if (x === null || y === null) return (x === null) - (y === null);
    const order = x < y ? -1 : x > y ? 1 : 0;
    return forward ? order : -order;
  }

  function chosen() {
    const run = at("f-run").value, attribute = at("f-attribute").value, status = at("f-status").value;
    const words = at("f-text").value.trim().toLowerCase();
    const found = rows.filter((r) =>
      (run === "" || String(r.run) === run) && (attribute === "" || r.attribute === attribute) &&
      (status === "" || r.status === status) &&
      (words === "" || `${r.id}\n${r.prompt}\n${r.said}`.toLowerCase().includes(words)));
    const index = data.columns.findIndex((c) => c.name === state.key);
    const column = data.columns[index];
    // Worst first is rising where higher is better; of what has no direction, and of names, "worst" is the least.
    const forward = index < 0 || column.up !== false ? state.worst : !state.worst;
    return found.sort((a, b) => compared(a, b, column, index, forward));
  }

  function header() {
    const line = made("tr");
    const sortable = (key, label, left) => {
      const button = made("button", { type: "button", textContent: label });
      button.addEventListener("click", () => {
        if (state.key === key) state.worst = !state.worst; else { state.key = key; state.worst = true; }
        synchronised();
        at("rows").querySelector(`button[data-key="${CSS.escape(key)}"]`).focus();
      });
      button.dataset.key = key;
      const cell = made("th", { scope: "col", className: left ? "text" : "" }, button);
      if (state.key === key) {
        const up = (data.columns.find((c) => c.name === key) || {}).up;
        const rising = up !== false ? state.worst : !state.worst;
        cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
        button.append(rising ? " ▲" : " ▼");
      }
      return cell;
    };
    line.append(sortable("id", "sample", true));
    if (data.runs.length > 1) line.append(made("th", { scope: "col", className: "text", textContent: "run" }));
    if (rows.some((r) => r.attribute)) line.append(made("th", { scope: "col", className: "text", textContent: data.group }));
    line.append(made("th", { scope: "col", className: "text", textContent: "status" }));
    for (const [column] of columns()) line.append(sortable(column.name, column.label, false));
    line.append(made("th", { scope: "col", className: "text", textContent: "note" }));
    at("rows").tHead.replaceChildren(line);
  }

  function table(found) {
    const first = state.rowPage * PAGE_ROWS, part = found.slice(first, first + PAGE_ROWS);
    const withAttribute = rows.some((r) => r.attribute);
    const lines = part.map((r) => {
      const line = made("tr", {}, made("th", { scope: "row", textContent: r.id }));
      if (data.runs.length > 1) line.append(made("td", { className: "text", textContent: data.runs[r.run] }));
      if (withAttribute) line.append(made("td", { className: "text", textContent: r.attribute }));
      line.append(made("td", { className: "text", textContent: r.status }));
      for (const [column, i] of columns()) line.append(made("td", { textContent: shown(r.values[i], column) }));
      line.append(made("td", { className: "text", textContent: r.said }));
      return line;
    });
    at("rows").tBodies[0].replaceChildren(...lines);
    paged("t", state.rowPage, found.length, PAGE_ROWS);
  }

  function picture(name, alt) {
    return made("img", { src: at(name).textContent, alt, decoding: "async" });
  }

  function card(r) {
    const name = r.attribute + " of " + r.id, run = data.runs.length > 1 ? ", " + data.runs[r.run] : "";
    const node = made("article", { className: "card" }, made("h4", { textContent: r.id + " · " + r.attribute + run }));
    if (data.doubtful[r.run]) node.append(made("span", { className: "tag bad", textContent: "not comparable" }));
    if (r.prompt) node.append(made("p", { textContent: "“" + r.prompt + "”" }));
    const what = data.made[r.run], edited = what === "edit";
    if (r.seen.photo && r.seen.edit) {
      const frame = made("div", { className: "compare" }, picture(r.seen.photo, "Photo " + r.id + (edited ? " before the edit" : "")));
      const after = picture(r.seen.edit, "The " + name + (edited ? " after the edit" : ""));
      after.className = "after";
      frame.append(after, made("span", { className: "edge" }));
      const slider = made("input", { type: "range", min: "0", max: "100", value: "50" });
      slider.setAttribute("aria-label", `Position between photo and ${what}, ${name}`);
      const moved = () => frame.style.setProperty("--cut", slider.value + "%");
      slider.addEventListener("input", moved);
      moved();
      node.append(frame, slider, made("div", { className: "ends" }, made("span", { textContent: "photo" }), made("span", { textContent: what })));
    } else if (r.seen.photo || r.seen.edit) {
      const only = r.seen.photo ? picture(r.seen.photo, "Photo " + r.id) : picture(r.seen.edit, "The " + name);
      node.append(made("div", { className: "compare" }, only));
    }
    const panels = made("div", { className: "panels" });
    for (const [key, label] of PANELS) {
      if (r.seen[key]) panels.append(made("figure", {}, picture(r.seen[key], label + ", " + name), made("figcaption", { textContent: label })));
    }
    node.append(panels);
    if (r.note) node.append(made("p", { className: "hint", textContent: r.note }));
    if (r.said) node.append(made("p", { textContent: r.said }));
    const list = made("dl");
    for (const [column, i] of columns()) {
      if (r.values[i] !== null) list.append(made("dt", { textContent: column.label }), made("dd", { textContent: shown(r.values[i], column) }));
    }
    node.append(list);
    return node;
  }

  function gallery(found) {
    if (!at("gallery")) return;
    const seen = found.filter((r) => r.seen), first = state.cardPage * PAGE_CARDS;
    const cards = seen.slice(first, first + PAGE_CARDS).map(card);
    at("gallery").replaceChildren(...(cards.length ? cards : [made("p", { textContent: "None of these samples has photos on this page." })]));
    paged("g", state.cardPage, seen.length, PAGE_CARDS);
  }

  function paged(which, page, total, size) {
    const last = Math.min((page + 1) * size, total);
    at(which + "-place").textContent = total ? `${page * size + 1}–${last} of ${total}` : "none";
    at(which + "-back").disabled = page === 0;
    at(which + "-on").disabled = last >= total;
  }

  function show() {
    const found = chosen();
    at("count").textContent = `${found.length} of ${rows.length} samples`;
    header();
    table(found);
    gallery(found);
  }

  function synchronised() {
    at("f-sort").value = state.key;
    at("f-order").value = state.worst ? "worst" : "best";
    changed();
  }

  function changed() {
    state.rowPage = state.cardPage = 0;
    show();
  }

  filled(at("f-run"), data.runs.map((name, i) => [i, name]), "all runs");
  filled(at("f-attribute"), unique(rows.map((r) => r.attribute)).map((a) => [a, a]), `all ${data.group}s`);
  filled(at("f-status"), unique(rows.map((r) => r.status)).map((s) => [s, s]), "any status");
  at("f-sort").append(made("option", { value: "id", textContent: "sample" }));
  for (const column of data.columns) at("f-sort").append(made("option", { value: column.name, textContent: column.label }));
  at("f-raw").closest("label").hidden = !data.columns.some((c) => c.raw);
  for (const id of ["f-run", "f-attribute", "f-status"]) at(id).addEventListener("change", changed);
  at("f-text").addEventListener("input", changed);
  at("f-sort").addEventListener("change", () => { state.key = at("f-sort").value; changed(); });
  at("f-order").addEventListener("change", () => { state.worst = at("f-order").value === "worst"; changed(); });
  at("f-raw").addEventListener("change", () => { state.raw = at("f-raw").checked; show(); });
  document.querySelector(".controls").addEventListener("submit", (event) => event.preventDefault());
  const step = (which, key, by) => at(which) && at(which).addEventListener("click", () => { state[key] += by; show(); });
  step("t-back", "rowPage", -1); step("t-on", "rowPage", 1); step("g-back", "cardPage", -1); step("g-on", "cardPage", 1);
  browser.hidden = false;
  synchronised();
  document.documentElement.dataset.ready = "yes";
})();
