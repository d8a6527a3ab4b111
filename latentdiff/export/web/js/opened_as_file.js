// No module: a browser that opened the page as a file runs none.
if (location.protocol === "file:") document.getElementById("notice").hidden = false;
