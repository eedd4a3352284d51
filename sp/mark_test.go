package sp

import (
	"net/http"
	"testing"
	"time"
)

// FuzzMarks reads what any browser may send: it is bounded, written as it is
// read, and fit for a cookie.
func FuzzMarks(f *testing.F) {
	for _, value := range []string{"0", "", "1795336536.0123456789ab-1795336540.out", "1795336536.-1.x", "-.-..", "9223372036854775807.out", "1795336536.out;Path=/"} {
		f.Add(value)
	}
	now := time.Unix(1795336536, 0)
	f.Fuzz(func(t *testing.T, value string) {
		all := parseMarks(value, now)
		text := all.String()
		if len(all) > maxMarks || len(text) > maxMarks*(10+1+maxMark+1) {
			t.Errorf("%d marks: %q", len(all), text)
		}
		if again := parseMarks(text, now); again.String() != text {
			t.Errorf("%q is read as %q", text, again)
		}
		cookie := &http.Cookie{Name: "a", Value: text}
		if err := cookie.Valid(); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestMarksOfClocksThatDiffer(t *testing.T) {
	now := time.Unix(1795336536, 0)
	for _, test := range []struct {
		off time.Duration
		ok  bool
	}{{0, true}, {markLife - time.Second, true}, {markLife, false}, {time.Second - markLife, true}, {-markLife, false}} {
		m := marks{{"out", now.Add(test.off).Unix()}}
		if got := parseMarks(m.String(), now); got.has("out") != test.ok {
			t.Errorf("%v off: %v", test.off, got)
		}
	}
}
