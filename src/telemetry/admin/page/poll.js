// Asks the node again and again: while somebody looks, and slower while it does not answer.

const PERIOD = 2000;
const PATIENCE = 5000;
const LONGEST_PAUSE = 30000;

// `path()` says what to ask for; `told(answer)`, `failed({why, pause})` and `refused({status, why})` get what
// comes of it. After a refusal nothing is asked until `use(token)`. The token is in this closure only.
export function poll({ path, told, failed, refused }) {
  let token = null;
  let timer = null;
  let asking = null;
  let failures = 0;
  let paused = false;
  let locked = false;

  function stop() {
    clearTimeout(timer);
    asking?.abort();
    asking = null;
  }

  function now() {
    stop();
    if (!document.hidden && !locked) ask();
  }

  function later(pause) {
    if (!paused || failures > 0) timer = setTimeout(now, pause);
  }

  function get(path, signal) {
    const headers = token === null ? {} : { authorization: `Bearer ${token}` };
    return fetch(path, { headers, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  }

  async function ask() {
    const mine = (asking = new AbortController());
    const slow = setTimeout(() => mine.abort(), PATIENCE);
    let done;
    try {
      const answer = await get(path(), mine.signal);
      if (answer.status === 401 || answer.status === 403) {
        const why = (await answer.text()).trim();
        done = () => {
          [locked, token] = [true, null];
          refused({ status: answer.status, why });
        };
      } else if (answer.ok) {
        const overview = await answer.json();
        done = () => {
          failures = 0;
          told(overview);
          later(PERIOD);
        };
      } else {
        throw new Error(`it answers ${answer.status}`);
      }
    } catch (error) {
      done = () => {
        const pause = Math.min(PERIOD * 2 ** failures, LONGEST_PAUSE);
        failures += 1;
        failed({ why: error.name === "AbortError" ? "it did not answer in time" : error.message, pause });
        later(pause);
      };
    }
    clearTimeout(slow);
    // Whatever was asked for meanwhile counts instead.
    if (asking === mine) done();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : paused || now()));
  return {
    now,
    once: (path) => get(path, AbortSignal.timeout(PATIENCE)),
    pause(on) {
      paused = on;
      if (on) stop();
      else now();
    },
    use(shown) {
      [token, locked] = [shown, false];
      now();
    },
  };
}
