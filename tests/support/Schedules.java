import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Schedules tasks as a Java program does that sets nothing: HTTP/2 is offered with each request. Prints each status. */
public class Schedules {
    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        String body = "{\"webhook\": \"http://127.0.0.1:9/\", \"ttl\": 3600, \"data\": \"\\r\\nUpgrade: h2c\"}";
        for (String token : new String[] {arguments[1], arguments[1], arguments[1], "wrong"}) {
            HttpRequest request = HttpRequest.newBuilder(URI.create(arguments[0] + "/schedule"))
                .header("Authorization", token)
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
            if (token.equals("wrong")) {
                HttpRequest list = HttpRequest.newBuilder(URI.create(arguments[0] + "/schedules"))
                    .header("Authorization", arguments[1]).build();
                System.out.println(client.send(list, HttpResponse.BodyHandlers.ofString()).statusCode());
            }
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
        }
    }
}
