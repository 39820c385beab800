// Checks deliveries by npm's standardwebhooks: reads a JSON list of [secret, headers, body in base64], and prints those
// that it refuses, each with its error.
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

const refused = [];
for (const [secret, headers, body] of JSON.parse(await text(process.stdin))) {
  try {
    new Webhook(secret).verify(Buffer.from(body, "base64"), headers, { jsonParse: false });
  } catch (error) {
    refused.push([headers["webhook-id"], error.message]);
  }
}
console.log(JSON.stringify(refused));
