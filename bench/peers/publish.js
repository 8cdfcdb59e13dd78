// How events enter the Node.js peers: POST /publish?channel=NAME, answered once they are handed on.
'use strict';

exports.publisher = (deliver) => (request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    deliver(new URL(request.url, 'http://x').searchParams.get('channel'), Buffer.concat(parts));
    response.setHeader('Content-Length', 2);
    response.end('{}');
  });
};

exports.listen = (server) => {
  server.keepAliveTimeout = 3600e3;
  server.listen({ host: '127.0.0.1', port: Number(process.argv[2]), backlog: 4096 }, () => console.log('ready'));
};

exports.deflate = process.argv[3] === 'deflate';
