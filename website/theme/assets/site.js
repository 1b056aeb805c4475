// What the pages do beyond links: search, a copy button on code, and keys for what scrolls or is folded up. Each page works without it.
"use strict";

const root = document.body.dataset.root.replace(/\/?$/, "/");
const SHOWN = 20; // results

function element(name, attributes, ...content) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...content);
  return made;
}

// The index is a script, since a page from a folder (file://) may load no data. It is loaded at the first search.
let sections;
function index() {
  sections ??= new Promise((resolve, reject) => {
    const script = element("script", { src: `${root}assets/search-index.js`, onerror: reject });
    script.onload = () => resolve(window.searchIndex);
    document.head.append(script);
  });
  return sections;
}

// A word counts more in a heading than in the text, a heading that is the query most of all. Sections that have the most
// of the words come first.
function found(all, query) {
  const whole = query.trim().toLowerCase();
  const words = [...new Set(query.toLowerCase().split(/\s+/))].filter(Boolean);
  const results = [];
  for (const section of all) {
    const [page, title, text] = [section.page, section.title, section.text].map((part) => part.toLowerCase());
    let matched = 0;
    let score = (title === whole && 20) + (`${title} ${text}`.includes(whole) && 20);
    for (const word of words) {
      const here = (title.includes(word) && 10) + (page.includes(word) && 4) + (text.includes(word) && 2);
      matched += here > 0;
      score += here;
    }
    if (matched) results.push({ section, matched, score });
  }
  const most = Math.max(0, ...results.map((result) => result.matched));
  const close = results.filter((result) => result.matched > 0.7 * most); // of a pasted message much is names and numbers
  return close.sort((a, b) => b.matched - a.matched || b.score - a.score);
}

function excerpt(text, query) {
  const low = text.toLowerCase();
  const words = [query.trim().toLowerCase(), ...query.toLowerCase().split(/\s+/)].filter(Boolean);
  const word = words.find((each) => low.includes(each));
  if (!word) return [text.slice(0, 160)];
  const at = low.indexOf(word);
  const from = at > 60 ? low.indexOf(" ", at - 60) + 1 : 0;
  const mark = element("mark", {}, text.slice(at, at + word.length));
  return [(from ? "…" : "") + text.slice(from, at), mark, `${text.slice(at + word.length, at + word.length + 100)}…`];
}

function search(place) {
  const input = element("input", { type: "search", id: "search", placeholder: "Words, or an error message", autocomplete: "off" });
  const label = element("label", { htmlFor: "search" }, "Search");
  const status = element("p", { className: "status", role: "status" });
  const list = element("ol");
  const results = element("div", { className: "results", hidden: true }, status, list);
  place.append(label, input, results);

  async function show() {
    const query = input.value;
    if (query.trim().length < 2) {
      results.hidden = true;
      return;
    }
    let all;
    try {
      all = await index();
    } catch {
      status.textContent = "The search index could not be loaded: assets/search-index.js is missing beside this site.";
      results.hidden = false;
      return;
    }
    if (query !== input.value) return; // typed on meanwhile
    const hits = found(all, query);
    const shown = hits.slice(0, SHOWN);
    const some = hits.length === 1 ? "1 section" : `${hits.length} sections`;
    status.textContent = hits.length ? some + (hits.length > SHOWN ? `, the best ${SHOWN} of them` : "") : "Nothing found";
    list.replaceChildren(
      ...shown.map(({ section }) => {
        const name = section.title === section.page ? section.page : `${section.page}: ${section.title}`;
        const link = element("a", { href: root + section.url }, name);
        link.addEventListener("click", () => (results.hidden = true));
        return element("li", {}, link, element("p", {}, ...excerpt(section.text, query)));
      }),
    );
    results.hidden = false;
  }

  input.addEventListener("input", show);
  input.addEventListener("focus", show);
  place.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      input.value = "";
      input.focus();
      results.hidden = true;
    }
    const links = [input, ...list.querySelectorAll("a")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const next = step && links[links.indexOf(document.activeElement) + step];
    if (next && !results.hidden) {
      event.preventDefault();
      next.focus();
    }
    if (event.key === "Enter" && document.activeElement === input && !results.hidden) links[1]?.click();
  });
  document.addEventListener("click", (event) => {
    if (!place.contains(event.target)) results.hidden = true;
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      input.focus();
    }
  });
}

async function copied(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element("textarea", { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy"); // the older way, for where the newer one is not offered
  area.remove();
}

function copyButton(code) {
  const button = element("button", { type: "button", className: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await copied(code.querySelector("pre").textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed: select and copy by hand";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  code.append(button);
}

function scrollable() {
  for (const box of document.querySelectorAll(".table, pre")) {
    const scrolls = box.scrollWidth > box.clientWidth;
    box.classList.toggle("scrolls", scrolls);
    if (!scrolls) {
      box.removeAttribute("tabindex");
      box.removeAttribute("role");
      continue;
    }
    box.tabIndex = 0; // so that arrow keys scroll it
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", box.matches("pre") ? "Code, scrolls sideways" : "Table, scrolls sideways");
  }
}

// What the style sheet shows open on a wide screen is open: assistive technology goes by that.
function unfolded(details, width) {
  if (!details) return;
  const wide = matchMedia(`(min-width: ${width})`);
  const set = () => (details.open = wide.matches);
  wide.addEventListener("change", set);
  set();
}

unfolded(document.querySelector("nav.site > details"), "56rem");
unfolded(document.querySelector("nav.page > details"), "75rem");
const pages = document.querySelector("nav.site > details");
const current = pages.querySelector("[aria-current]");
if (current) pages.scrollTop = current.offsetTop - pages.clientHeight / 2;
search(document.querySelector("search"));
document.querySelectorAll(".code").forEach(copyButton);
scrollable();
window.addEventListener("resize", scrollable);
