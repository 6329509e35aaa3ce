() => {
  const mend = () => {
    // Gradio's comparing slider gives its two pictures no words,
    document.querySelectorAll("#compare img").forEach((image, i) => {
      const words = i ? "The edit" : "The photo as it was loaded";
      if (image.alt !== words) image.alt = words;
    });
    // and its radio buttons are no group, in which arrow keys would move.
    for (const group of ["attribute", "task"]) {
      document.querySelectorAll(`#${group} input`).forEach((input) => {
        if (input.name !== group) input.name = group;
      });
    }
  };
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
  mend();

  // Of a file that is too large Gradio says so for some seconds, and its upload is out of order until that is clicked
  // away: such files are kept from it.
  const limit = window.gradio_config.max_file_size;
  const megabytes = (bytes) => (bytes / 1e6).toFixed(1).replace(".0", "");
  const forget = () => document.querySelectorAll(".too-large").forEach((sentence) => sentence.remove());
  const keepOut = (event, files) => {
    forget();
    const large = [...(files ?? [])].find((file) => file.size > limit);
    const tab = event.target.closest?.("[role=tabpanel]");
    if (!large || !tab) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const sentence = document.createElement("p");
    sentence.className = "said refused too-large";
    sentence.setAttribute("role", "alert");
    sentence.textContent =
      `${large.name}: ${megabytes(large.size)} MB are over the limit of ${megabytes(limit)} MB; save it smaller.`;
    tab.querySelector("[id$=message]").append(sentence);
  };
  document.addEventListener("change", (event) => {
    if (event.target.type !== "file") return;
    keepOut(event, event.target.files);
    if (event.defaultPrevented) event.target.value = "";
  }, true);
  document.addEventListener("drop", (event) => {
    keepOut(event, event.dataTransfer?.files);
    if (event.defaultPrevented) event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true }));
  }, true);
  for (const kind of ["click", "keydown"]) document.addEventListener(kind, forget, true);

  document.documentElement.dataset.ready = "";
}
