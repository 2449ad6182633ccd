package amop.interop;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.fisco.bcos.sdk.BcosSDK;
import org.fisco.bcos.sdk.amop.AmopCallback;
import org.fisco.bcos.sdk.amop.AmopMsgOut;
import org.fisco.bcos.sdk.amop.AmopResponse;
import org.fisco.bcos.sdk.amop.AmopResponseCallback;
import org.fisco.bcos.sdk.amop.topic.AmopMsgIn;
import org.fisco.bcos.sdk.amop.topic.TopicType;
import org.fisco.bcos.sdk.config.ConfigOption;
import org.fisco.bcos.sdk.config.model.ConfigProperty;
import org.fisco.bcos.sdk.crypto.keystore.KeyTool;
import org.fisco.bcos.sdk.model.MsgType;

/** One SDK instance, connected to one node. */
final class Link {
    private final String name;
    private final BcosSDK sdk;

    private final double connectedAfter;

    private Link(String name, BcosSDK sdk, double connectedAfter) {
        this.name = name;
        this.sdk = sdk;
        this.connectedAfter = connectedAfter;
    }

    /** Builds an SDK as an application would, from a directory of certificates and a list of peers. */
    static Link connect(String name, JsonNode command) throws Exception {
        ConfigProperty property = new ConfigProperty();
        property.setCryptoMaterial(new HashMap<>(Map.of("certPath", command.get("certs").asText())));
        property.setNetwork(new HashMap<>(Map.of("peers", new ArrayList<>(List.of(command.get("node").asText())))));
        long start = System.nanoTime();
        BcosSDK sdk = new BcosSDK(new ConfigOption(property));
        return new Link(name, sdk, since(start));
    }

    /** Milliseconds from construction to being usable. */
    double connectedAfter() {
        return connectedAfter;
    }

    void subscribe(JsonNode command) {
        String topic = command.get("topic").asText();
        sdk.getAmop().subscribeTopic(topic, teller(command));
        Main.say(Map.of("event", "subscribed", "as", name, "topic", topic));
    }

    /** Proves to publishers of the topic, when nodes ask it to, that it has the key. */
    void subscribePrivate(JsonNode command) throws IOException {
        String topic = command.get("topic").asText();
        JsonNode key = command.get("key");
        if (Keys.isHex(key)) {
            sdk.getAmop().subscribePrivateTopics(topic, Keys.hex(key), teller(command));
        } else {
            sdk.getAmop().subscribePrivateTopics(topic, Keys.tool(key), teller(command));
        }
        Main.say(Map.of("event", "subscribed", "as", name, "topic", topic));
    }

    void unsubscribePrivate(JsonNode command) {
        String topic = command.get("topic").asText();
        sdk.getAmop().unsubscribeTopic(topic);
        Main.say(Map.of("event", "unsubscribed", "as", name, "topic", topic));
    }

    /** Says whose subscriptions are to be trusted. The keys are all in files, or all in digits. */
    void publishPrivate(JsonNode command) throws IOException {
        String topic = command.get("topic").asText();
        List<KeyTool> tools = new ArrayList<>();
        List<String> digits = new ArrayList<>();
        for (JsonNode key : command.get("keys")) {
            if (Keys.isHex(key)) {
                digits.add(Keys.hex(key));
            } else {
                tools.add(Keys.tool(key));
            }
        }
        if (tools.isEmpty()) {
            sdk.getAmop().publishPrivateTopicWithHexPublicKeyList(topic, digits);
        } else {
            sdk.getAmop().publishPrivateTopic(topic, tools);
        }
        Main.say(Map.of("event", "published", "as", name, "topic", topic));
    }

    void request(JsonNode command) throws Exception {
        byte[] payload = Payload.of(command);
        int count = command.path("count").asInt(1);
        List<Double> times = new ArrayList<>();
        Map<String, Object> event = new HashMap<>();
        for (int i = 0; i < count; i++) {
            long start = System.nanoTime();
            event = outcome(command, payload);
            times.add(since(start));
            if (!Integer.valueOf(0).equals(event.get("code"))) {
                break;
            }
        }
        event.put("event", "outcome");
        event.put("as", name);
        event.put("id", command.path("id").asLong());
        event.put("ms", times);
        Main.say(event);
    }

    /** The SDK sends it and registers no callback: what became of it is not told. */
    void multicast(JsonNode command) {
        sdk.getAmop().broadcastAmopMsg(message(command, Payload.of(command)));
        Map<String, Object> event = new HashMap<>();
        event.put("event", "outcome");
        event.put("as", name);
        event.put("id", command.path("id").asLong());
        event.put("code", null);
        Main.say(event);
    }

    /** The official AMOP demo's wait: poll getPeers of group 1 until some peer lists the topic. */
    void awaitTopic(JsonNode command) throws Exception {
        String topic = command.get("topic").asText();
        long end = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(command.get("timeout_ms").asLong());
        var client = sdk.getClient(1);
        boolean found = false;
        while (!found && System.nanoTime() < end) {
            found = client.getPeers().getPeers().stream().anyMatch(peer -> peer.getTopic().contains(topic));
            if (!found) {
                Thread.sleep(50);
            }
        }
        Main.say(Map.of("event", "topic", "as", name, "id", command.path("id").asLong(), "found", found));
    }

    void close() {
        sdk.stopAll();
        Main.say(Map.of("event", "closed", "as", name));
    }

    private AmopCallback teller(JsonNode command) {
        JsonNode answer = command.get("answer");
        return new AmopCallback() {
            @Override
            public byte[] receiveAmopMsg(AmopMsgIn message) {
                byte[] content = message.getContent();
                Map<String, Object> event = Payload.describe(content);
                event.put("event", "message");
                event.put("as", name);
                event.put("topic", message.getTopic());
                event.put("kind", kind(message.getType()));
                FilePayload.describe(content, event);
                Main.say(event);
                return Payload.answer(answer, content);
            }
        };
    }

    private Map<String, Object> outcome(JsonNode command, byte[] payload) throws InterruptedException {
        AtomicReference<AmopResponse> answered = new AtomicReference<>();
        CountDownLatch done = new CountDownLatch(1);
        sdk.getAmop().sendAmopMsg(message(command, payload), new AmopResponseCallback() {
            @Override
            public void onResponse(AmopResponse response) {
                answered.set(response);
                done.countDown();
            }
        });
        // Without a node the SDK calls nothing back; its own time limit is the message's.
        boolean called = done.await(timeout(command) + 2000, TimeUnit.MILLISECONDS);
        Map<String, Object> event = new HashMap<>();
        event.put("code", called ? answered.get().getErrorCode() : null);
        if (called && answered.get().getAmopMsgIn() != null) {
            event.putAll(Payload.describe(answered.get().getAmopMsgIn().getContent()));
        }
        return event;
    }

    private static AmopMsgOut message(JsonNode command, byte[] payload) {
        AmopMsgOut out = new AmopMsgOut();
        out.setTopic(command.get("topic").asText());
        out.setType(isPrivate(command) ? TopicType.PRIVATE_TOPIC : TopicType.NORMAL_TOPIC);
        out.setTimeout(timeout(command));
        out.setContent(payload);
        return out;
    }

    private static boolean isPrivate(JsonNode command) {
        return command.get("do").asText().startsWith("private_");
    }

    private static long timeout(JsonNode command) {
        return command.path("timeout_ms").asLong(10000);
    }

    private static String kind(short type) {
        return type == (short) MsgType.AMOP_MULBROADCAST.getType() ? "multicast" : "unicast";
    }

    private static double since(long start) {
        return (System.nanoTime() - start) / 1e6;
    }
}
