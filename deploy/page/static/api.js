// Requests to the server that this page came from, and to no other.

export class Fault extends Error {}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Fault("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  let words = `The server answered ${response.status}.`;
  try { words = (await response.json()).fault || words; } catch { /* no JSON */ }
  if (response.status === 401) words += " Load this page again.";
  throw new Fault(words);
}

export const json = async (path, options) => (await answer(path, options)).json();

export const numbers = async path => new Int16Array(await (await answer(path)).arrayBuffer());

export const remove = path => json(path, { method: "DELETE" });

export const post = (path, content) => json(path, {
  method: "POST",
  headers: content === undefined ? {} : { "Content-Type": "application/json" },
  body: content === undefined ? undefined : JSON.stringify(content),
});

export function upload(files) {
  const body = new FormData();
  for (const file of files) body.append("files", file, file.webkitRelativePath || file.name);
  return json("/api/scans", { method: "POST", body });
}

// Tells the state of a job until it has ended; a broken stream is opened again by the browser itself.
export function watch(path, tell) {
  return new Promise((done, fail) => {
    const stream = new EventSource(path);
    stream.onmessage = event => {
      const told = JSON.parse(event.data);
      tell(told);
      if (told.state !== "done" && told.state !== "failed") return;
      stream.close();
      if (told.state === "done") done(); else fail(new Fault(told.reason));
    };
    stream.onerror = () => {
      if (stream.readyState === EventSource.CLOSED) fail(new Fault("The server does not tell the progress any more."));
    };
  });
}
