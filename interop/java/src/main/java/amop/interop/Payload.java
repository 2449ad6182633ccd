package amop.interop;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HashMap;
import java.util.Map;

/** What is sent, and how what arrived is described. */
final class Payload {
    /** Bytes repeat with a prime period, so that no two pieces of a cut message are alike. */
    private static final int PERIOD = 251;

    private Payload() {}

    /** The content that the command says, as a file if it names one. */
    static byte[] of(JsonNode command) {
        byte[] content = content(command);
        return command.hasNonNull("file") ? FilePayload.of(command.get("file").asText(), content) : content;
    }

    /** The text of the command, or as many bytes of the pattern as it says. */
    private static byte[] content(JsonNode command) {
        if (command.hasNonNull("text")) {
            return command.get("text").asText().getBytes(StandardCharsets.UTF_8);
        }
        byte[] bytes = new byte[command.get("size").asInt()];
        int seed = command.path("seed").asInt();
        for (int i = 0; i < bytes.length; i++) {
            bytes[i] = (byte) ((i + seed) % PERIOD);
        }
        return bytes;
    }

    /** What a subscriber answers: what came, or the text it was told, or nothing at all. */
    static byte[] answer(JsonNode answer, byte[] content) {
        if (answer == null || "echo".equals(answer.asText())) {
            return content;
        }
        // The SDK sends no answer when its callback returns null (it fails before).
        return answer.path("silent").asBoolean() ? null : answer.get("text").asText().getBytes(StandardCharsets.UTF_8);
    }

    static Map<String, Object> describe(byte[] content) {
        Map<String, Object> event = new HashMap<>();
        event.put("bytes", content.length);
        event.put("sha256", sha256(content));
        return event;
    }

    private static String sha256(byte[] content) {
        try {
            StringBuilder hex = new StringBuilder();
            for (byte b : MessageDigest.getInstance("SHA-256").digest(content)) {
                hex.append(String.format("%02x", b));
            }
            return hex.toString();
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
