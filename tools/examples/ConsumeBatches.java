import java.io.InputStream;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.avro.Schema;
import org.apache.avro.generic.*;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Prints each prepared batch once, with its provenance: ConsumeBatches BROKERS TOPIC REGISTRY_URL FILE. */
class ConsumeBatches {
    static final int FRAME_BYTES = 5; // 0, and the schema id
    static final Map<Integer, Schema> SCHEMAS = new HashMap<>();

    public static void main(String[] given) throws Exception {
        // aborted transactions leave records that no outcome counts: only committed ones may be read
        Map<String, Object> config = Map.of("bootstrap.servers", given[0], "isolation.level", "read_committed",
            "group.id", "example-java", "auto.offset.reset", "earliest", "enable.auto.commit", false);
        Path printed = Path.of(given[3]);
        Set<String> seen = new HashSet<>(Files.exists(printed) ? Files.readAllLines(printed) : List.of());
        try (var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(given[1]));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    int schemaId = ByteBuffer.wrap(record.value()).getInt(1);
                    if (!SCHEMAS.containsKey(schemaId)) SCHEMAS.put(schemaId, schema(given[2], schemaId));
                    var body = DecoderFactory.get().binaryDecoder(record.value(), FRAME_BYTES, record.value().length - FRAME_BYTES, null);
                    GenericRecord batch = new GenericDatumReader<GenericRecord>(SCHEMAS.get(schemaId)).read(null, body);
                    String id = batch.get("event_id").toString();
                    // after a crash the offset is older than the work that was done: the event id tells what was done
                    if (!seen.add(id)) continue;
                    System.out.println("{\"event_id\": \"" + id + "\", \"processing_metadata\": " + batch.get("processing_metadata")
                        + ", \"provenance\": " + batch.get("provenance") + "}");
                    Files.writeString(printed, id + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
                }
                consumer.commitSync();
            }
        }
    }

    static Schema schema(String registry, int id) throws Exception {
        try (InputStream answer = URI.create(registry + "/schemas/ids/" + id).toURL().openStream()) {
            return new Schema.Parser().parse(new ObjectMapper().readTree(answer).get("schema").asText());
        }
    }
}
