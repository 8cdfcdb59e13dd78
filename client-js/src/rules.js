/* What the client does when a link ends: the table of codes.js as rules, so that a page which only connects does not
 * carry the table. test/codes.test.js holds the two together, row for row. */

/* Ends a link for good; stands for every HTTP answer that a repetition would not change. */
const FINAL = 4499;

/* The action for a close code, and for the one error that says more than the code it comes with. */
export function reaction(close, error) {
  if (close === 4401) return 'token';
  if (close === 4404) return 'register';
  if (error === 'no_channel' || close === 1000) return 'stop';
  if ([1002, 1007, 1009, 4400, 4413].includes(close)) return 'once';
  return close < 4400 || close > 4499 || close === 4408 || close === 4429 ? 'backoff' : 'stop';
}

/* The close code that leads to what this HTTP answer asks for. A proxy answers without our error code;
 * its 404 is taken for a queue that is gone, which costs a registration. */
export function closeOfHttp(status, error) {
  if (status < 400) return 1006;
  if (status === 501 || status === 505 || error === 'not_found') return FINAL;
  if (status < 500) return 4000 + status;
  return status === 503 ? 1013 : 1011;
}
