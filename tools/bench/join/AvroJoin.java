import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.HexFormat;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
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
 * The join of cjstream as the documentation of Kafka Streams recommends it: Avro serdes, and a left join with a
 * GlobalKTable, exactly once.
 *
 * <p>Requests and contexts are decoded, and outcomes are encoded, with Apache Avro's generic records. Three things are
 * in favour of Kafka Streams: the table is in memory, serdes know their schemas without a registry, and a request
 * without a context does not wait.
 */
public final class AvroJoin {
    private AvroJoin() {}

    public static void main(String[] args) throws IOException {
        StreamsApp app = StreamsApp.of(args);
        String[] own = Arrays.copyOfRange(args, StreamsApp.ARGUMENTS, args.length);
        Schema outcome = new Schema.Parser().parse(new File(own[0]));
        Schema context = new Schema.Parser().parse(new File(own[1]));
        Serde<GenericRecord> requests = avro(own[2], outcome.getField("request").schema());
        Serde<GenericRecord> contexts = avro(own[3], context);
        Serde<GenericRecord> outcomes = avro(own[4], outcome);
        Outcomes join = new Outcomes(outcome, Integer.parseInt(own[5]));

        StreamsBuilder builder = new StreamsBuilder();
        GlobalKTable<String, GenericRecord> table = builder.globalTable(
                app.contexts(),
                Consumed.with(Serdes.String(), contexts),
                Materialized.<String, GenericRecord>as(Stores.inMemoryKeyValueStore("contexts"))
                        .withKeySerde(Serdes.String())
                        .withValueSerde(contexts));
        builder.stream(app.requests(), Consumed.with(Serdes.ByteArray(), requests))
                .processValues(Locate::new)
                .leftJoin(table, (key, request) -> request.scopeKey(), join::outcome)
                .to(app.outcomes(), Produced.with(Serdes.ByteArray(), outcomes));
        app.run(builder);
    }

    /** A serde of records of one schema, with this frame before each: a magic byte and the schema's id. */
    private static Serde<GenericRecord> avro(String frame, Schema schema) {
        byte[] before = HexFormat.of().parseHex(frame);
        return Serdes.serdeFrom(new AvroSerializer(before, schema), new AvroDeserializer(before, schema));
    }

    private static final class AvroSerializer implements Serializer<GenericRecord> {
        private final byte[] frame;
        private final GenericDatumWriter<GenericRecord> writer;

        AvroSerializer(byte[] frame, Schema schema) {
            this.frame = frame;
            this.writer = new GenericDatumWriter<>(schema);
        }

        @Override
        public byte[] serialize(String topic, GenericRecord record) {
            ByteArrayOutputStream out = new ByteArrayOutputStream(2048);
            BinaryEncoder encoder = EncoderFactory.get().directBinaryEncoder(out, null);
            try {
                out.write(frame);
                writer.write(record, encoder);
            } catch (IOException fault) {
                throw new UncheckedIOException(fault);
            }
            return out.toByteArray();
        }
    }

    private static final class AvroDeserializer implements Deserializer<GenericRecord> {
        private final byte[] frame;
        private final GenericDatumReader<GenericRecord> reader;

        AvroDeserializer(byte[] frame, Schema schema) {
            GenericData data = new GenericData();
            data.setFastReaderEnabled(true);
            this.frame = frame;
            this.reader = new GenericDatumReader<>(schema, schema, data);
        }

        @Override
        public GenericRecord deserialize(String topic, byte[] value) {
            if (value == null) {
                return null;
            }
            if (!Arrays.equals(value, 0, frame.length, frame, 0, frame.length)) {
                throw new SerializationException(topic + " has a record of another schema");
            }
            int size = value.length - frame.length;
            BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(value, frame.length, size, null);
            try {
                return reader.read(null, decoder);
            } catch (IOException fault) {
                throw new UncheckedIOException(fault);
            }
        }
    }

    /** A request and its coordinates. */
    private record Located(GenericRecord request, RecordMetadata at) {
        String scopeKey() {
            Object assignment = request.get("assignment_id");
            return assignment == null ? "course:" + request.get("course_code") : "assignment:" + assignment;
        }
    }

    private static final class Locate extends ContextualFixedKeyProcessor<byte[], GenericRecord, Located> {
        @Override
        public void process(FixedKeyRecord<byte[], GenericRecord> record) {
            RecordMetadata at = context().recordMetadata().orElseThrow();
            context().forward(record.withValue(new Located(record.value(), at)));
        }
    }

    /** Makes outcomes of requests and contexts. */
    private static final class Outcomes {
        private final Schema outcome;
        private final Schema provenance;
        private final Schema coordinates;
        private final Schema used;
        private final Schema metadata;
        private final int recipe;

        Outcomes(Schema outcome, int recipe) {
            this.outcome = outcome;
            this.provenance = outcome.getField("provenance").schema();
            this.coordinates = provenance.getField("request").schema();
            this.used = provenance.getField("instructions").schema().getTypes().get(1);
            this.metadata = outcome.getField("processing_metadata").schema();
            this.recipe = recipe;
        }

        GenericRecord outcome(Located located, GenericRecord context) {
            RecordMetadata at = located.at();
            GenericRecord request = located.request();
            Object ownPrompt = request.get("student_prompt_ref");
            GenericRecord instructions = live(context, "instructions");
            GenericRecord prompt = ownPrompt == null ? live(context, "student_prompt") : null;
            GenericRecord rubric = live(context, "judge_rubric");

            GenericRecord requestAt = new GenericData.Record(coordinates);
            requestAt.put("topic", at.topic());
            requestAt.put("partition", at.partition());
            requestAt.put("offset", at.offset());

            GenericRecord sources = new GenericData.Record(provenance);
            sources.put("request", requestAt);
            sources.put("instructions", used(instructions));
            sources.put("student_prompt", used(prompt));
            sources.put("judge_rubric", used(rubric));

            GenericRecord about = new GenericData.Record(metadata);
            about.put("context_source", request.get("assignment_id") == null ? "course" : "assignment");
            about.put("instructions_storage_id", field(instructions, "storage_id"));
            about.put("judge_rubric_storage_id", field(rubric, "storage_id"));
            about.put("grade_scale", field(instructions, "grade_scale"));
            about.put("context_origin", field(instructions, "context_origin"));
            about.put("prompt_source", ownPrompt != null ? "request" : prompt != null ? "assignment" : "none");
            about.put("student_prompt_storage_id", ownPrompt != null ? ownPrompt : field(prompt, "storage_id"));

            GenericRecord made = new GenericData.Record(outcome);
            made.put("event_id", at.topic() + "/" + at.partition() + "@" + at.offset());
            made.put("recipe", recipe);
            made.put("provenance", sources);
            made.put("processing_metadata", about);
            made.put("request", request);
            return made;
        }

        private static GenericRecord live(GenericRecord context, String role) {
            GenericRecord component = context == null ? null : (GenericRecord) context.get(role);
            return component == null || (boolean) component.get("is_deletion") ? null : component;
        }

        private GenericRecord used(GenericRecord component) {
            if (component == null) {
                return null;
            }
            GenericRecord source = (GenericRecord) component.get("source");
            GenericRecord made = new GenericData.Record(used);
            GenericRecord from = new GenericData.Record(coordinates);
            from.put("topic", source.get("topic"));
            from.put("partition", source.get("partition"));
            from.put("offset", source.get("offset"));
            made.put("source", from);
            made.put("version", component.get("version"));
            made.put("event_id", component.get("event_id"));
            made.put("sha256", component.get("sha256"));
            return made;
        }

        private static Object field(GenericRecord component, String name) {
            return component == null ? null : component.get(name);
        }
    }
}
