() => {
  const repair = () => {
    // Gradio's comparing slider gives its two pictures no words,
    document.querySelectorAll("#compare img").forEach((image, i) => {
      const words = i ? "The edit" : "The photo as it was loaded";
      if (image.alt !== words) image.alt = words;
    });
    // and its radio buttons are no group, in which arrow keys would move.
    for (const group of ["attribute", "brush", "task"]) {
      document.querySelectorAll(`#${group} input`).forEach((input) => {
        if (input.name !== group) input.name = group;
      });
    }
  };
  new MutationObserver(repair).observe(document.body, { childList: true, subtree: true });
  repair();

  // A stroke on the mask is drawn under the pointer and sent in shares of the photo; the server draws the new mask.
  const tool = () => document.querySelector("#brush input:checked")?.value ?? "off";
  const frame = (image) => {
    const box = image.getBoundingClientRect();
    const [wide, high] = [image.naturalWidth, image.naturalHeight];
    const scale = Math.min(box.width / wide, box.height / high);
    const [width, height] = [wide * scale, high * scale];
    return { left: box.left + (box.width - width) / 2, top: box.top + (box.height - height) / 2, width, height };
  };
  let stroke = null;
  const draw = (event) => {
    const { at, points, radius, pen } = stroke;
    points.push([(event.clientX - at.left) / at.width, (event.clientY - at.top) / at.height]);
    const [from, to] = [points[Math.max(0, points.length - 2)], points[points.length - 1]];
    pen.lineWidth = 2 * radius;
    pen.beginPath();
    pen.moveTo(from[0] * at.width, from[1] * at.height);
    pen.lineTo(to[0] * at.width, to[1] * at.height);
    pen.stroke();
  };
  document.addEventListener("pointerdown", (event) => {
    const image = event.target.closest?.("#mask img");
    if (!image || tool() === "off" || event.button !== 0 || stroke) return;
    event.preventDefault();
    const at = frame(image), canvas = document.createElement("canvas");
    canvas.className = "stroke";
    [canvas.width, canvas.height] = [at.width, at.height];
    Object.assign(canvas.style, { left: `${at.left + scrollX}px`, top: `${at.top + scrollY}px` });
    document.body.append(canvas);
    const pen = canvas.getContext("2d");
    Object.assign(pen, { lineCap: "round", lineJoin: "round", strokeStyle: tool() === "brush" ? "#ff00a0" : "#888" });
    const share = document.querySelector("#size input[type=range]").value / 200;
    stroke = { at, pen, canvas, points: [], radius: share * Math.max(at.width, at.height), share };
    stroke.erase = tool() === "eraser";
    draw(event);
  });
  document.addEventListener("pointermove", (event) => stroke && draw(event));
  const end = () => {
    if (!stroke) return;
    const { canvas, points, share, erase } = stroke;
    stroke = null;
    const told = document.querySelector("#stroke textarea, #stroke input");
    told.value = JSON.stringify({ points, radius: share, erase });
    told.dispatchEvent(new Event("input", { bubbles: true }));
    document.querySelector("#mask img").addEventListener("load", () => canvas.remove(), { once: true });
    setTimeout(() => canvas.remove(), 3000);
  };
  document.addEventListener("pointerup", end);
  document.addEventListener("pointercancel", end);
  document.addEventListener("dragstart", (event) => event.target.closest?.("#mask") && event.preventDefault());

  document.documentElement.dataset.ready = "";
}
