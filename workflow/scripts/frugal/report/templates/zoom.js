// A figure is enlarged by a click or its button, grows and shrinks by +, - and 0, and is put back by Escape.
const zoom = document.getElementById("zoom"), pan = zoom.querySelector(".pan"), shown = zoom.querySelector("output");
let home = null, fit = 1, scale = 1; // fit: the width, in pixels, at which all of the figure is in sight

// The middle of what is seen stays where it is.
function resize(factor) {
  const svg = pan.firstElementChild, before = scale;
  const middle = (edge, size) => (pan[edge] + pan[size] / 2) / before;
  const [x, y] = [middle("scrollLeft", "clientWidth"), middle("scrollTop", "clientHeight")];
  scale = Math.min(8, Math.max(1, factor));
  svg.style.width = `${fit * scale}px`;
  shown.textContent = `${Math.round(100 * scale)} %`;
  pan.scrollTo(x * scale - pan.clientWidth / 2, y * scale - pan.clientHeight / 2);
}

for (const figure of document.querySelectorAll("figure")) {
  const card = figure.querySelector(".card"), button = figure.querySelector(".enlarge");
  const enlarge = () => {
    const svg = card.firstElementChild, { width, height } = svg.viewBox.baseVal, before = svg.clientWidth;
    home = card;
    // The figure itself moves: a copy would have the same ids twice. Its place is held open meanwhile.
    card.style.minHeight = `${card.offsetHeight}px`;
    pan.replaceChildren(svg);
    zoom.showModal();
    pan.focus();
    fit = Math.min(pan.clientWidth, pan.clientHeight * width / height);
    scale = 1;
    resize(before / fit); // never smaller than it was
  };
  button.hidden = false;
  button.addEventListener("click", enlarge);
  card.addEventListener("click", enlarge);
  card.classList.add("zoomable");
}
zoom.addEventListener("close", () => {
  const svg = pan.firstElementChild;
  svg.style.width = "";
  home.replaceChildren(svg);
  home.style.minHeight = "";
  home.parentElement.querySelector(".enlarge").focus();
});
zoom.addEventListener("click", (event) => {
  const step = { larger: 1.5, smaller: 1 / 1.5 }[event.target.value];
  if (step) resize(scale * step);
});
zoom.addEventListener("keydown", (event) => {
  const step = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 1 / scale }[event.key];
  if (!step || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  resize(scale * step);
});
