import Foundation

/// A program in place of a model, read from stub.json of a package.
///
/// The logit 1 of a row is that of the token
///
///     (shift + Σ (j + 1) × (token j + 1)) modulo vocabulary
///
/// over the tokens of the cache up to the row's own; the others are 0. So a token at a wrong
/// position, a token of another text or of padding, and a function of another adapter, each change
/// what is chosen.
public struct Program: Codable, Sendable {
    public struct Function: Codable, Sendable {
        public let tokens: Int
        public let shift: Int

        public init(tokens: Int, shift: Int) {
            self.tokens = tokens
            self.shift = shift
        }
    }

    public let functions: [String: Function]
    public let context: Int
    public let vocabulary: Int

    public init(functions: [String: Function], context: Int, vocabulary: Int) {
        self.functions = functions
        self.context = context
        self.vocabulary = vocabulary
    }

    init(in package: URL) throws {
        let file = package.appending(path: "stub.json")
        self = try JSONDecoder().decode(Program.self, from: Data(contentsOf: file))
    }

    func function(_ name: String?) throws -> Function {
        guard let function = functions[name ?? ""] else {
            throw StubError("no function \(name ?? "named")")
        }
        return function
    }

    func run(
        _ function: Function, ids: [Int32], position: Int, cache: inout [Int32]
    ) throws -> [[Float16]] {
        guard position + ids.count <= cache.count else { throw StubError("outside of the cache") }
        cache.replaceSubrange(position..<position + ids.count, with: ids)
        return ids.indices.map { row in
            var sum = function.shift
            for j in 0...position + row { sum += (j + 1) * (Int(cache[j]) + 1) }
            var logits = Array(repeating: Float16(0), count: vocabulary)
            logits[sum % vocabulary] = 1
            return logits
        }
    }
}

struct StubError: Error {
    let message: String

    init(_ message: String) { self.message = message }
}
