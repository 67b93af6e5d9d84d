import AfmqGeneration
import AfmqRuntime
import Foundation

/// Prints the answer of a model as it is generated. Exit codes: 0; 1 if the model fails; 2 for a
/// wrong command line.
@main
struct AfmqRun {
    static func main() async {
        do {
            let arguments = try RunArguments(Array(CommandLine.arguments.dropFirst()))
            if arguments.help {
                print(RunArguments.usage)
            } else {
                try await run(arguments)
            }
        } catch let error as UsageError {
            fail("\(error)\n\n\(RunArguments.usage)", code: 2)
        } catch {
            fail(error.localizedDescription, code: 1)
        }
    }

    private static func run(_ arguments: RunArguments) async throws {
        let folder = try ModelFolder(
            URL(filePath: arguments.package),
            tokenizer: arguments.tokenizer.map { URL(filePath: $0) })
        let model = try await TextModel(folder, prefill: arguments.prefill)
        if arguments.listAdapters {
            for adapter in model.adapters { print(adapter) }
            return
        }
        let answer = try model.answer(
            to: arguments.prompt, adapter: arguments.adapter, chat: arguments.chat,
            options: arguments.options)
        for try await piece in answer {
            FileHandle.standardOutput.write(Data(piece.utf8))
        }
        print()
    }

    private static func fail(_ message: String, code: Int32) -> Never {
        FileHandle.standardError.write(Data("afmq-run: \(message)\n".utf8))
        exit(code)
    }
}
