// A real OpenID Connect provider for tests: the npm package oidc-provider, with its own development pages for login and
// consent. Accounts, clients, lifetimes and the key it signs with come as JSON in the first argument; where the package is installed, in the
// second. Prints its issuer when it listens. What must not live here: anything about Postern.

import { createPrivateKey, randomUUID } from 'node:crypto';
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const settings = JSON.parse(process.argv[2]);
const require = createRequire(path.join(process.argv[3], 'package.json'));

// A key of this process alone: one that is started anew in the place of another signs with another. It is made by the test, for Node.js 20
// stands still for ever where it collects garbage while it makes a key of its own.
function signingKeys() {
  const key = createPrivateKey(settings.key).export({ format: 'jwk' });
  return { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'RS256' }] };
}

const { Provider } = await import(pathToFileURL(require.resolve('oidc-provider')));

const server = http.createServer();
server.listen(settings.port ?? 0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: settings.clients,
    // Who logs in under a name that is not listed has no claims but a subject.
    findAccount: (_context, id) => ({
      accountId: id,
      claims: () => ({ sub: id, ...settings.accounts[id] }),
    }),
    claims: { openid: ['sub'], email: ['email', 'email_verified', 'hd', 'xms_edov', 'tid'], profile: ['name'] },
    // Both kinds of providers are met: those that put claims into the ID token, and those that leave them to user info.
    conformIdTokenClaims: settings.claimsInUserInfo === true,
    ttl: { AuthorizationCode: 60, IdToken: 3600, AccessToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
    cookies: { keys: ['only for tests'] },
    jwks: signingKeys(),
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});

// Ends with the test that started it, however that ends.
process.stdin.on('end', () => process.exit(0)).resume();
