import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.Stores;

/**
 * The join of AvroJoin without Avro: it splices bytes.
 *
 * <p>It does less than cjstream, in favour of Kafka Streams: the table's values are the context parts of outcomes as
 * they are written, so that nothing is decoded; of a request it reads no more than the assignment id, and it does not
 * check the rest; a request without a context does not wait.
 */
public final class SpliceJoin {
    private static final int FRAME_BYTES = 5;

    private SpliceJoin() {}

    public static void main(String[] args) {
        StreamsApp app = StreamsApp.of(args);
        byte[] frame = HexFormat.of().parseHex(args[StreamsApp.ARGUMENTS]);
        int recipe = Integer.parseInt(args[StreamsApp.ARGUMENTS + 1]);

        StreamsBuilder builder = new StreamsBuilder();
        var bytes = Serdes.ByteArray();
        GlobalKTable<String, byte[]> table = builder.globalTable(
                app.contexts(),
                Consumed.with(Serdes.String(), bytes),
                Materialized.<String, byte[]>as(Stores.inMemoryKeyValueStore("contexts"))
                        .withKeySerde(Serdes.String())
                        .withValueSerde(bytes));
        builder.stream(app.requests(), Consumed.with(bytes, bytes))
                .processValues(() -> new Identify(frame, recipe))
                .leftJoin(table, (key, request) -> request.scopeKey(), Request::with)
                .to(app.outcomes(), Produced.with(bytes, bytes));

        app.run(builder);
    }

    /** A request with the beginning of its outcome. */
    private record Request(byte[] value, byte[] head, String scopeKey) {
        /** The outcome: head, context part (nothing if it is unknown), and the request without its frame. */
        byte[] with(byte[] context) {
            int contextBytes = context == null ? 0 : context.length;
            byte[] outcome = new byte[head.length + contextBytes + value.length - FRAME_BYTES];
            System.arraycopy(head, 0, outcome, 0, head.length);
            if (context != null) {
                System.arraycopy(context, 0, outcome, head.length, contextBytes);
            }
            System.arraycopy(
                    value, FRAME_BYTES, outcome, head.length + contextBytes, value.length - FRAME_BYTES);
            return outcome;
        }
    }

    /** Adds to each request its scope key, and the beginning of its outcome, which has the request's coordinates. */
    private static final class Identify extends ContextualFixedKeyProcessor<byte[], byte[], Request> {
        private final byte[] frame;
        private final int recipe;

        Identify(byte[] frame, int recipe) {
            this.frame = frame;
            this.recipe = recipe;
        }

        @Override
        public void process(FixedKeyRecord<byte[], byte[]> record) {
            RecordMetadata at = context().recordMetadata().orElseThrow();
            context().forward(record.withValue(
                    new Request(record.value(), head(at), AvroReader.scopeKey(record.value()))));
        }

        private byte[] head(RecordMetadata at) {
            byte[] topic = at.topic().getBytes(StandardCharsets.UTF_8);
            byte[] id = (at.topic() + "/" + at.partition() + "@" + at.offset()).getBytes(StandardCharsets.UTF_8);
            byte[] head = new byte[frame.length + id.length + topic.length + 50];
            System.arraycopy(frame, 0, head, 0, frame.length);
            int end = text(id, head, frame.length);
            end = varint(recipe, head, end);
            end = text(topic, head, end);
            end = varint(at.partition(), head, end);
            end = varint(at.offset(), head, end);
            return Arrays.copyOf(head, end);
        }

        private static int text(byte[] text, byte[] into, int position) {
            int start = varint(text.length, into, position);
            System.arraycopy(text, 0, into, start, text.length);
            return start + text.length;
        }

        private static int varint(long number, byte[] into, int position) {
            long rest = number << 1;
            for (; (rest & ~0x7FL) != 0; rest >>>= 7) {
                into[position++] = (byte) (rest & 0x7F | 0x80);
            }
            into[position++] = (byte) rest;
            return position;
        }
    }

    /** Reads the assignment id of an encoded request and skips what is before it. */
    private static final class AvroReader {
        private final byte[] bytes;
        private int position = FRAME_BYTES;

        private AvroReader(byte[] bytes) {
            this.bytes = bytes;
        }

        static String scopeKey(byte[] request) {
            AvroReader reader = new AvroReader(request);
            reader.skipText(); // event_id
            reader.number(); // occurred_at_ms
            reader.skipText(); // source_service
            reader.skipText(); // correlation_id
            reader.skipText(); // batch_id
            return reader.number() == 0 ? "" : "assignment:" + reader.text();
        }

        private long number() {
            long value = 0;
            for (int shift = 0; ; shift += 7) {
                byte next = bytes[position++];
                value |= (long) (next & 0x7F) << shift;
                if (next >= 0) {
                    return value >>> 1 ^ -(value & 1);
                }
            }
        }

        private void skipText() {
            int length = (int) number();
            position += length;
        }

        private String text() {
            int length = (int) number();
            position += length;
            return new String(bytes, position - length, length, StandardCharsets.UTF_8);
        }
    }
}
