// Command httpproxy prints, for many settings of the proxy variables, which proxy
// golang.org/x/net/http/httpproxy uses for a URL. client-go and kubectl use this package.
//
// The columns are HTTP_PROXY, HTTPS_PROXY, NO_PROXY, the URL and the proxy, separated by tabs.
//
// Usage: go run ./httpproxy > ../engine/httpproxy.tsv
package main

import (
	"fmt"
	"math/rand"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

var hosts = []string{
	"example.com", "EXAMPLE.com", "api.example.com", "deep.api.example.com", "badexample.com", "example.com.evil.org",
	"localhost", "LOCALHOST", "localhost.localdomain", "127.0.0.1", "127.8.9.10", "[::1]", "[::ffff:127.0.0.1]",
	"10.0.0.1", "10.1.2.3", "192.168.1.10", "172.16.0.1", "172.32.0.1", "[fd00::1]", "[2001:db8::5]", "[::ffff:10.0.0.1]",
	"kubernetes.default.svc", "kubernetes", "münchen.example", "xn--mnchen-3ya.example", "example.com.", "1.2.3", "0x7f.1",
}

var entries = []string{
	"", "*", "example.com", ".example.com", "*.example.com", "Example.COM", "example.com:443", "example.com:8443",
	".example.com:8443", "*.example.com:443", "10.0.0.1", "10.0.0.1:6443", "10.0.0.0/8", "10.0.0.0/33", "172.16.0.0/12",
	"192.168.1.0/24", "fd00::/8", "fd00::1", "[fd00::1]:6443", "[2001:db8::5]", "2001:db8::/32", "localhost",
	"kubernetes.default.svc", ".svc", "svc", "com", ":443", "*.", ".", "münchen.example", "xn--mnchen-3ya.example",
	" example.com ", "example.com.", "::ffff:10.0.0.0/104", "10.0.0.1/32", "*example.com", "10.*", "https://example.com",
	"[::1]", "0.0.0.0/0", "::/0", "api.*", "exa mple.com",
}

var schemes = []string{"http", "https"}

var ports = []string{"", ":443", ":6443", ":8443", ":80"}

var proxies = []string{
	"http://proxy.test:3128", "proxy.test:3128", "proxy.test", "https://proxy.test", "http://user:pass@proxy.test:3128",
	"socks5://proxy.test:1080", "", "10.9.9.9:3128", "[fd00::9]:3128",
}

func lookup(httpProxy, httpsProxy, noProxy, target string) {
	config := httpproxy.Config{HTTPProxy: httpProxy, HTTPSProxy: httpsProxy, NoProxy: noProxy}
	parsed, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	proxy, err := config.ProxyFunc()(parsed)
	if err != nil {
		panic(err)
	}
	found := ""
	if proxy != nil {
		found = proxy.String()
	}
	fmt.Println(strings.Join([]string{httpProxy, httpsProxy, noProxy, target, found}, "\t"))
}

func main() {
	random := rand.New(rand.NewSource(1))
	some := func(texts []string) string { return texts[random.Intn(len(texts))] }
	for _, proxy := range proxies {
		for _, scheme := range []string{"http", "https", "ftp"} {
			lookup(proxy, some(proxies), "", scheme+"://example.com/")
			lookup(some(proxies), proxy, "", scheme+"://example.com/")
		}
	}
	for _, entry := range entries {
		for _, host := range hosts {
			lookup("", proxies[0], entry, "https://"+host+"/api")
			lookup("", proxies[0], entry, "https://"+host+some(ports)+"/api")
		}
	}
	for range 2000 {
		list := []string{}
		for range 1 + random.Intn(4) {
			list = append(list, some(entries))
		}
		lookup(proxies[0], proxies[0], strings.Join(list, ","), some(schemes)+"://"+some(hosts)+some(ports)+"/")
	}
}
