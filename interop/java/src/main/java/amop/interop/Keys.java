package amop.interop;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.fisco.bcos.sdk.crypto.keystore.KeyTool;
import org.fisco.bcos.sdk.crypto.keystore.P12KeyStore;
import org.fisco.bcos.sdk.crypto.keystore.PEMKeyStore;

/** Keys of private topics, read by the SDK's own classes. */
final class Keys {
    private Keys() {}

    static boolean isHex(JsonNode key) {
        return "hex".equals(key.get("format").asText());
    }

    /** The digits as they are: the SDK takes them so. */
    static String hex(JsonNode key) throws IOException {
        return Files.readString(Path.of(key.get("file").asText())).trim();
    }

    static KeyTool tool(JsonNode key) {
        String file = key.get("file").asText();
        switch (key.get("format").asText()) {
            case "pem":
                return new PEMKeyStore(file);
            case "pkcs12":
                return new P12KeyStore(file, key.get("password").asText());
            default:
                throw new IllegalArgumentException("no such format: " + key);
        }
    }
}
