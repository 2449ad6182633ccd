package amop.interop;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Map;

/**
 * A file in one payload, as the official Java demo has it: what its AmopPublisherFile sends and its DemoAmopCallback reads.
 *
 * <p>Both are kept as they are. The sender counts the name's length in characters and writes its bytes; the receiver
 * takes that length for bytes, and has the content begin after as many bytes as the name that it read has characters.
 * Only names in ASCII survive that.
 */
final class FilePayload {
    private static final int MARK = -128;
    private static final int HEADER = 8;

    private FilePayload() {}

    /** Mark, length of the name in characters, name in the platform's charset, content. */
    static byte[] of(String name, byte[] content) {
        byte[] bytes = name.getBytes();
        ByteBuffer payload = ByteBuffer.allocate(HEADER + bytes.length + content.length);
        return payload.putInt(MARK).putInt(name.length()).put(bytes).put(content).array();
    }

    /** Adds name and content to the event if the payload is a file; the demo would write it under that very name. */
    static void describe(byte[] payload, Map<String, Object> event) {
        ByteBuffer header = ByteBuffer.wrap(payload);
        if (payload.length <= HEADER || header.getInt() != MARK) {
            return;
        }
        String name = new String(payload, HEADER, header.getInt());
        byte[] content = Arrays.copyOfRange(payload, HEADER + name.length(), payload.length);
        Map<String, Object> described = Payload.describe(content);
        event.put("file", Map.of("name", name, "bytes", described.get("bytes"), "sha256", described.get("sha256")));
    }
}
