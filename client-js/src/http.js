/* One HTTP request to the server, in the client's codec, for a path below /realtime/. Resolves to { body, tookMs } of a
 * 2xx or to { why } it failed, in the terms of transports.js, never rejects.
 *
 *   env       url, fetch, codec, token()
 *   options   body, signal, timeoutMs: by default for what is answered at once
 *   why.cut   true when neither the server nor this client ended it: the network or a proxy did */
import { json } from './codec_json.js';
import { undoable } from './dispatch.js';
import { closeOfHttp } from './rules.js';

/* The longest an answer may take beyond the hold that was asked for. */
export const GRACE_MS = 15_000;

export async function http({ url, codec, fetch, token }, method, path, { body, timeoutMs = GRACE_MS, signal } = {}) {
  const deadline = new AbortController();
  const stop = undoable(() => deadline.abort(), signal);
  const timer = setTimeout(stop, timeoutMs);
  const started = Date.now();
  const headers = { Accept: codec.contentType };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  if (body) headers['Content-Type'] = codec.contentType;
  try {
    const response = await fetch(`${url}/realtime/${path}`, {
      method,
      headers,
      body: body && codec.encode(body),
      cache: 'no-store',
      signal: deadline.signal,
    });
    const answer = await decoded(response, codec);
    return response.ok && answer ? { body: answer, tookMs: Date.now() - started } : { why: refusal(response, answer) };
  } catch (error) {
    return { why: { close: 1006, message: String(error), cut: !deadline.signal.aborted } };
  } finally {
    clearTimeout(timer);
    stop();
  }
}

/* undefined: a proxy's page. */
async function decoded(response, codec) {
  const ours = codec.binary && response.headers.get('Content-Type')?.includes('msgpack');
  const data = ours ? await response.arrayBuffer() : await response.text();
  try {
    return (ours ? codec : json).decode(data);
  } catch {}
}

function refusal({ status, headers }, { code: error, message = `HTTP ${status}` } = {}) {
  const retryAfterMs = headers.get('Retry-After') * 1000 || undefined;
  return { close: closeOfHttp(status, error), error, message, retryAfterMs, cut: !error && status > 500 };
}
