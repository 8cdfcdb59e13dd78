/* The codec that needs no library; the contract is `Codec` in index.d.ts. */
export const json = {
  name: 'json',
  contentType: 'application/json',
  binary: false,
  encode: JSON.stringify,
  decode: JSON.parse,
};
