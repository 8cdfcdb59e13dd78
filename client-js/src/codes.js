/* What ends a link, and what the client does then. ERRORS mirrors protocol/status.def, row for row
 * (tests/lint/codes.py compares them): code: [HTTP status, close code, action].
 *
 *   backoff   reconnects with full jitter, same queue      token  gets a new token, keeps the queue, once
 *   register  registers again and refetches                stop   stops until the application acts
 *   once      reports a bug, tries once more, stops */
export const ERRORS = {
  ok: [200, 1000, 'stop'],
  out_of_memory: [503, 1013, 'backoff'],
  bad_message: [400, 4400, 'once'],
  invalid: [400, 4400, 'once'],
  too_big: [413, 4413, 'once'],
  unauthorized: [401, 4401, 'token'],
  token_invalid: [401, 4401, 'token'],
  token_expired: [401, 4401, 'token'],
  hello_expected: [401, 4401, 'token'],
  forbidden: [403, 4403, 'stop'],
  disconnected: [403, 4403, 'stop'],
  origin_forbidden: [403, 4403, 'stop'],
  transport_disabled: [403, 4403, 'stop'],
  transport_gone: [410, 4403, 'stop'],
  not_found: [404, 4400, 'stop'],
  method_not_allowed: [405, 4400, 'stop'],
  queue_not_found: [404, 4404, 'register'],
  replaced: [409, 4409, 'stop'],
  heartbeat: [408, 4408, 'backoff'],
  request_timeout: [408, 4408, 'backoff'],
  idempotency_mismatch: [422, 4400, 'stop'],
  unknown_op: [400, 4400, 'once'],
  no_channel: [400, 4400, 'stop'],
  uri_too_long: [414, 4400, 'stop'],
  headers_too_big: [431, 4400, 'stop'],
  rate_limited: [429, 4429, 'backoff'],
  overloaded: [503, 1013, 'backoff'],
  draining: [503, 1012, 'backoff'],
  bus_unavailable: [503, 1013, 'backoff'],
  invalid_utf8: [400, 1007, 'once'],
  protocol_error: [400, 1002, 'once'],
  not_implemented: [501, 4400, 'stop'],
  http_version: [505, 4400, 'stop'],
  media_type: [415, 4400, 'stop'],
  internal: [500, 1011, 'backoff'],
};

/* Close codes that no status stands for: they come from the network, a proxy or the browser. */
const CLOSES = { 1001: 'backoff', 1006: 'backoff', 1009: 'once', 1012: 'backoff' };

const rows = Object.entries(ERRORS);

/* The action for an error code if it is a known one, else for the close code. A close code shared by
 * several statuses follows the first of them; unknown 44xx stop, all others back off. */
export function actionOf(close, error) {
  if (Object.hasOwn(ERRORS, error ?? '')) return ERRORS[error][2];
  const row = rows.find(([, [, c]]) => c === close);
  if (row) return row[1][2];
  return CLOSES[close] ?? (close >= 4400 && close < 4500 ? 'stop' : 'backoff');
}
