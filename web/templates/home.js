"use strict";
// What comes after "#" only the browser knows: let it travel along.
const pages = Array.from(document.getElementsByName("wantsurl"), (field) => [field, field.defaultValue]);
const travel = () => {
  const fragment = /^#[\w.~:;=&,+\/-]{1,200}$/.test(location.hash) ? location.hash : "";
  for (const [field, page] of pages) field.value = page.includes("#") ? page : page + fragment;
};
addEventListener("hashchange", travel);
travel();
// Who cannot be logged in shall know before they have chosen.
document.cookie = "jumpgate-try=1; path=/; samesite=lax";
document.getElementById("cookieless").hidden = document.cookie.includes("jumpgate-try=1");
document.cookie = "jumpgate-try=; path=/; max-age=0";
// As people type names: gavle finds Gävle.
const folded = (text) => text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");
const search = document.getElementById("search");
const items = Array.from(document.querySelectorAll("#homes li"));
const shown = () => items.filter((item) => !item.hidden).map((item) => item.firstElementChild);
if (search) {
  const more = "more" in document.getElementById("homes").dataset; // that only the server can find
  const filter = () => {
    const words = folded(search.value).split(/\s+/);
    for (const item of items) {
      const text = folded(item.textContent);
      item.hidden = !words.every((word) => text.includes(word));
    }
    document.getElementById("none").hidden = more || shown().length > 0;
  };
  search.addEventListener("input", filter);
  search.form.addEventListener("submit", (event) => {
    const left = shown();
    if (!more && left.length === 1) {
      event.preventDefault();
      left[0].click();
    }
  });
  filter();
}
document.addEventListener("keydown", (event) => {
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
  const stops = [search, ...shown()].filter(Boolean);
  const at = stops.indexOf(document.activeElement);
  if (!step || at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  stops[Math.min(Math.max(at + step, 0), stops.length - 1)].focus();
});
