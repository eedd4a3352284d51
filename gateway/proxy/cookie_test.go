package proxy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOnlyOurCookiesAreRemoved(t *testing.T) {
	tests := []struct {
		name     string
		in, want []string
	}{
		{"none of ours", []string{"MoodleSession=abc; a=b"}, []string{"MoodleSession=abc; a=b"}},
		{"odd spacing and bytes stay", []string{"a=1;b=2 ;  c=\"x y\";;d=%7B\xff"}, []string{"a=1;b=2 ;  c=\"x y\";;d=%7B\xff"}},
		{"first", []string{"jumpgate-s=x; a=1"}, []string{"a=1"}},
		{"middle", []string{"a=1; jumpgate-s=x;  b=2"}, []string{"a=1;  b=2"}},
		{"last", []string{"a=1 ; jumpgate-s=x"}, []string{"a=1 "}},
		{"several", []string{"jumpgate-a=x;jumpgate-b=y; a=1;__Host-jumpgate-c=z"}, []string{"a=1"}},
		{"only ours", []string{"jumpgate-s=x"}, []string{}},
		{"two fields", []string{"jumpgate-s=x", "a=1; JumpGate-T=y"}, []string{"a=1"}},
		{"with a prefix in any case", []string{"__host-JUMPGATE-s=x; __Secure-jumpgate-s=x; a=1"}, []string{"a=1"}},
		{"without a value", []string{"jumpgate-; a=1"}, []string{"a=1"}},
		{"similar names stay", []string{"jumpgate=1; xjumpgate-a=2; jumpgat-e=3; a=jumpgate-s"}, []string{"jumpgate=1; xjumpgate-a=2; jumpgat-e=3; a=jumpgate-s"}},
		{"a quoted value hides nothing", []string{`a="x; jumpgate-s=1; y"`}, []string{`a="x; y"`}},
		{"as the value of a cookie without a name", []string{"=jumpgate-s=x; a=1; =b"}, []string{"a=1; =b"}},
		{"empty", []string{""}, []string{""}},
	}
	for _, tt := range tests {
		before := strings.Join(tt.in, "\n")
		if diff := cmp.Diff(tt.want, withoutOurCookies(tt.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		if strings.Join(tt.in, "\n") != before {
			t.Errorf("%s: the client's header was changed", tt.name)
		}
	}
	in := []string{"MoodleSession=abc; a=b"}
	if n := testing.AllocsPerRun(100, func() { withoutOurCookies(in) }); n != 0 {
		t.Errorf("%v allocations where nothing changes", n)
	}
}

func TestTheUpstreamCannotSetOurCookies(t *testing.T) {
	in := []string{"a=1", "jumpgate-s=x; Path=/", "  __Host-Jumpgate-s=x", "b=jumpgate-x; Max-Age=0", "jumpgate=1"}
	want := []string{"a=1", "b=jumpgate-x; Max-Age=0", "jumpgate=1"}
	if diff := cmp.Diff(want, WithoutOurSetCookies(in)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func FuzzWithoutOurCookies(f *testing.F) {
	f.Add("a=1; jumpgate-s=x; b=2")
	f.Add(";;jumpgate-a;")
	f.Fuzz(func(t *testing.T, value string) {
		var want []string
		for pair := range strings.SplitSeq(value, ";") {
			if !ourCookie(pair) {
				want = append(want, strings.TrimSpace(pair))
			}
		}
		left := withoutOurCookies([]string{value})
		if len(left) == 0 {
			if strings.Trim(strings.Join(want, ""), " \t") != "" {
				t.Fatalf("%q lost %q", value, want)
			}
			return
		}
		var got []string
		for pair := range strings.SplitSeq(left[0], ";") {
			if ourCookie(pair) {
				t.Errorf("%q keeps %q", value, pair)
			}
			got = append(got, strings.TrimSpace(pair))
		}
		nonEmpty := func(s []string) string { return strings.ReplaceAll(strings.Join(s, ";"), ";;", ";") }
		if strings.Trim(nonEmpty(got), ";") != strings.Trim(nonEmpty(want), ";") && !strings.Contains(value, ";;") {
			t.Errorf("%q became %q", value, left[0])
		}
	})
}
