// Package verdict answers, for each text it is given, what Prometheus's parsers make of it.
//
// It reads one request per line from standard input and writes one answer per line to standard
// output, both as JSON. Which versions of the parsers are asked is up to the program around it.
package verdict

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"sort"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

type request struct {
	// The text in hexadecimal, as it need not be UTF-8.
	Text        string `json:"text"`
	OpenMetrics bool   `json:"openmetrics"`
}

// Reading is what one parser made of a text.
type Reading struct {
	Error   string   `json:"error,omitempty"`
	Samples []string `json:"samples"`
	// The types and units of families, and the start times of samples: "TYPE name counter".
	Metadata []string `json:"metadata"`
}

type answer struct {
	Scrape Reading `json:"scrape"`
	Expfmt Reading `json:"expfmt"`
}

// Parser reads a text: its samples as written by Sample, and its metadata.
type Parser func(text []byte, openMetrics bool) (Reading, error)

// Serve answers requests until standard input ends.
func Serve(scrape, expfmt Parser) error {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 64<<20)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		var req request
		if err := json.Unmarshal(in.Bytes(), &req); err != nil {
			return err
		}
		text, err := hex.DecodeString(req.Text)
		if err != nil {
			return err
		}
		line, err := json.Marshal(answer{
			Scrape: read(scrape, text, req.OpenMetrics),
			Expfmt: read(expfmt, text, req.OpenMetrics),
		})
		if err != nil {
			return err
		}
		if _, err := out.Write(append(line, '\n')); err != nil {
			return err
		}
		// Who asked may wait for it before asking more.
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return in.Err()
}

func read(parse Parser, text []byte, openMetrics bool) (reading Reading) {
	defer func() {
		if problem := recover(); problem != nil {
			reading.Error = fmt.Sprint("panic: ", problem)
		}
	}()
	// The parsers append to what they are given.
	reading, err := parse(append([]byte(nil), text...), openMetrics)
	if err != nil {
		return Reading{Error: err.Error()}
	}
	return reading
}

// Label is one label of a sample.
type Label struct{ Name, Value string }

// Sample writes a sample in the one form in which samples are compared.
func Sample(name string, labels []Label, value float64, timestamp *int64) string {
	pairs := make([]string, 0, len(labels))
	for _, label := range labels {
		pairs = append(pairs, fmt.Sprintf("%s=%q", label.Name, label.Value))
	}
	sort.Strings(pairs)
	bits := math.Float64bits(value)
	if math.IsNaN(value) {
		bits = math.Float64bits(math.NaN())
	}
	sample := fmt.Sprintf("%s{%s} %016x", name, strings.Join(pairs, ","), bits)
	if timestamp != nil {
		sample += fmt.Sprintf(" %d", *timestamp)
	}
	return sample
}

// Flatten returns the samples of those families which expfmt does not fold: counters, gauges and
// untyped ones.
func Flatten(families map[string]*dto.MetricFamily) []string {
	samples := []string{}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			var value float64
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				value = metric.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				value = metric.GetGauge().GetValue()
			case dto.MetricType_UNTYPED:
				value = metric.GetUntyped().GetValue()
			default:
				continue
			}
			labels := make([]Label, 0, len(metric.GetLabel()))
			for _, pair := range metric.GetLabel() {
				labels = append(labels, Label{pair.GetName(), pair.GetValue()})
			}
			samples = append(samples, Sample(name, labels, value, metric.TimestampMs))
		}
	}
	return samples
}
