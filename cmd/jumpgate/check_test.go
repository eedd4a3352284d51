package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachLine(t *testing.T) {
	long := strings.Repeat("a", maxLine)
	tests := []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"a line without a newline", "a", []string{"a"}},
		{"blank lines count", "\n\na\n", []string{"", "", "a"}},
		{"only the newline goes", " a \r\n\tb\xff\n", []string{" a \r", "\tb\xff"}},
		{"a long line is cut and the next one is whole", long + "bc\nd\n", []string{long, "d"}},
		{"a long last line", "a\n" + long + "bc", []string{"a", long}},
		{"a line as long as the buffer", long[1:] + "\nb", []string{long[1:], "b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			if err := eachLine(strings.NewReader(test.in), func(s string) error { got = append(got, s); return nil }, func() error { return nil }); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("lines (-want +got):\n%.500s", diff)
			}
		})
	}
}
