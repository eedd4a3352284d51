package gateway_test

import (
	"testing"
	"time"

	"jumpgate/gateway"
)

func TestRatesAreReadAsTheyAreWritten(t *testing.T) {
	tests := []struct {
		text string
		want gateway.Rate
		back string // as it is written, if not the same
	}{
		{"30/m", gateway.Rate{N: 30, Per: time.Minute, Burst: 30}, ""},
		{"5/s burst 20", gateway.Rate{N: 5, Per: time.Second, Burst: 20}, ""},
		{"1000/h burst 1", gateway.Rate{N: 1000, Per: time.Hour, Burst: 1}, ""},
		{"30/m  burst  30", gateway.Rate{N: 30, Per: time.Minute, Burst: 30}, "30/m"},
		{"1000000/s", gateway.Rate{N: 1e6, Per: time.Second, Burst: 1e6}, ""},
		{"off", gateway.Rate{}, ""},
	}
	for _, test := range tests {
		got, err := gateway.ParseRate(test.text)
		if test.back == "" {
			test.back = test.text
		}
		if err != nil || got != test.want || got.String() != test.back {
			t.Errorf("%q: %+v, %q, %v", test.text, got, got, err)
		}
	}
	if got := tests[0].want.Interval(); got != 2*time.Second {
		t.Errorf("30 in a minute are %s apart", got)
	}
}

func TestWhatIsNoRateIsNotRead(t *testing.T) {
	for _, text := range []string{
		"", "30", "30/", "/m", "30/d", "30/min", "30 /m", " 30/m", "30/m ", "-1/m", "+1/m", "1.5/m", "0/m", "1000001/m", "99999999999999999999/m",
		"30/m burst", "30/m burst 0", "30/m burst 1000001", "30/m burst -1", "30/mburst 5", "30/m burst5", "Off", "30/m\n", "30/m burst 5 x",
	} {
		if got, err := gateway.ParseRate(text); err == nil || !got.IsZero() {
			t.Errorf("%q is %+v", text, got)
		}
	}
}
