// Requests to the server that this page came from, and to no other.

const TRIES = 20; // of a request that the server is too busy for
let token = "";

// Asks the server; `access` is called, and awaited, where it wants a token.
export async function ask(path, options, access) {
  for (let count = 1; ; count += 1) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(path, { ...options, headers });
    if (answer.status === 401) {
      token = await access();
    } else if ((answer.status === 429 || answer.status === 503) && count < TRIES) {
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => { setTimeout(resolve, 1000 * seconds); });
    } else if (!answer.ok) {
      throw new Error(await complaint(answer));
    } else {
      return answer;
    }
  }
}

// Everything found in a picture, whatever its score: the page chooses from that by itself.
export async function detect(name, blob, access) {
  const body = new FormData();
  body.append("images", blob, name);
  const answer = await ask("v1/detect?score=0", { method: "POST", body }, access);
  return (await answer.json())[0].detections;
}

async function complaint(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    return `The server answered ${answer.status}.`;
  }
}
