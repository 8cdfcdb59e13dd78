/* MessagePack carries what JSON would: fields that are undefined are absent, integers stay numbers. */
import { decode, encode } from '@msgpack/msgpack';

export const msgpack = {
  name: 'msgpack',
  contentType: 'application/msgpack',
  binary: true,
  encode: (message) => encode(message, { ignoreUndefined: true }),
  decode: (data) => decode(data),
};
