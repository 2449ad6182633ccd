package amop.interop;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.security.Security;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.bouncycastle.jce.provider.BouncyCastleProvider;

/**
 * Does what JSON lines on standard input ask, and says what happened in JSON lines on standard output.
 *
 * <p>The commands are those of every program of this directory; interop/README.md lists them. Ends
 * with "quit" or when standard input closes.
 */
public final class Main {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Map<String, Link> LINKS = new ConcurrentHashMap<>();

    private Main() {}

    /** Reads commands until there are no more. */
    public static void main(String[] args) throws Exception {
        if (Boolean.getBoolean("amop.bouncycastle.first")) {
            // JDK 16 and later have no secp256k1; with BouncyCastle first, chains of such certificates verify.
            Security.insertProviderAt(new BouncyCastleProvider(), 1);
        }
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            JsonNode command = JSON.readTree(line);
            if ("quit".equals(command.path("do").asText())) {
                break;
            }
            Thread worker = new Thread(() -> run(command));
            worker.setDaemon(true);
            worker.start();
        }
        // The SDK's threads are no daemons.
        System.out.flush();
        System.exit(0);
    }

    /** Prints one line for the driver. */
    static void say(Map<String, ?> event) {
        try {
            String line = JSON.writeValueAsString(event);
            synchronized (System.out) {
                System.out.write((line + "\n").getBytes(StandardCharsets.UTF_8));
                System.out.flush();
            }
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    private static void run(JsonNode command) {
        String name = command.path("as").asText();
        try {
            switch (command.path("do").asText()) {
                case "connect":
                    connect(name, command);
                    break;
                case "subscribe":
                    link(name).subscribe(command);
                    break;
                case "private_subscribe":
                    link(name).subscribePrivate(command);
                    break;
                case "private_unsubscribe":
                    link(name).unsubscribePrivate(command);
                    break;
                case "private_topic":
                    link(name).publishPrivate(command);
                    break;
                case "request":
                case "private_request":
                    link(name).request(command);
                    break;
                case "multicast":
                case "private_multicast":
                    link(name).multicast(command);
                    break;
                case "await_topic":
                    link(name).awaitTopic(command);
                    break;
                case "close":
                    LINKS.remove(name).close();
                    break;
                default:
                    throw new IllegalArgumentException("unknown command " + command);
            }
        } catch (Exception | LinkageError e) {
            say(Map.of("event", "failed", "as", name, "id", command.path("id").asLong(), "why", reason(e)));
        }
    }

    private static void connect(String name, JsonNode command) throws Exception {
        Link link = Link.connect(name, command);
        LINKS.put(name, link);
        say(Map.of("event", "connected", "as", name, "ms", link.connectedAfter()));
    }

    private static Link link(String name) {
        Link link = LINKS.get(name);
        if (link == null) {
            throw new IllegalArgumentException("nothing is connected as " + name);
        }
        return link;
    }

    private static String reason(Throwable e) {
        return e.getClass().getSimpleName() + ": " + e.getMessage();
    }
}
